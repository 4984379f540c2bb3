"""What a stream costs: the figures' arithmetic and how they are shown. The run itself is a benchmark."""

import io
import subprocess
import sys

import pytest
from rich.console import Console

from benchmarks import stream_cost
from benchmarks.stream_cost import Held, StreamCost
from pipeline.bench.report import Machine


def test_what_one_stream_holds_is_the_difference_by_their_number() -> None:
    with_four, without = Held(17, 60, 400, 1000, 700, 90), Held(5, 20, 120, 500, 400, 10)
    assert (with_four - without) / 4 == Held(3, 10, 70, 125, 75, 20)


def test_every_state_of_a_stream_has_its_row() -> None:
    machine = Machine("a CPU", 2, 8000, [], "Linux", "3.11", {}, 0.1)
    parts = [Held(processes=float(number)) for number in range(1, 6)]
    out = io.StringIO()
    found = StreamCost(machine, "t.yaml", 4, 15, *parts, {"decode": Held(1, 4, 26, 63.5, 34.25, 0.75)})
    Console(file=out, width=120).print(*stream_cost.tables(found))
    rows = [line for line in out.getvalue().splitlines() if "│" in line]
    assert [row.split("│")[1].strip() for row in rows] == [
        "no stream: the whole node",
        "a free place",
        "waits for its source",
        "15 fps",
        "its source is silent",
        "decode",
    ]
    assert [cell.strip() for cell in rows[-1].split("│")[2:-1]] == ["1", "4", "26", "63.5", "34.2", "0.8"]


def test_the_time_of_a_process_is_known_better_than_in_steps_of_ten_milliseconds() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        used = stream_cost._cpu_s(child.pid)[child.pid]
        assert used > 0
        assert round(used, 2) != used
        child.communicate(b"\n")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--streams", "1"], "--streams 1: needed: 2 to 16"),
        (["--fps", "0.5"], "--fps 0.5: needed: 1 to 240"),
        (["--seconds", "0"], "--seconds 0: needed: 1 to 600"),
        (["--json", "nowhere/x.json"], "there is no folder nowhere"),
        (["configs/demo.yaml"], "more than one stream needs streams.on_request: true"),
    ],
)
def test_nonsense_is_refused_before_anything_starts(
    arguments: list[str], why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["stream_cost", *arguments])
    with pytest.raises(SystemExit, match="2"):
        stream_cost.main()
    assert why in capsys.readouterr().err
