"""What the published comparison shows is all that was measured. No times are asserted."""

import math
import sys
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from benchmarks import peers
from benchmarks.end_to_end_peers.cases import CASES
from benchmarks.end_to_end_peers.contestants import CONTESTANTS, QUEUES
from benchmarks.end_to_end_peers.heat import over_rounds
from benchmarks.media_peers import ffmpeg
from benchmarks.peers_page import BEGIN, DOCUMENT, END, TITLES, Origin, page, plots, put_into
from benchmarks.trickle_peers.catalogue import PYTRICKLE, ROOT
from tests.benchmarks.test_end_to_end import BIG, figure, played, samples, watched

ORIGIN = Origin("a CPU, 2 cores", "pytrickle 0.1.6", "ffmpeg version 9", "python -m benchmarks.peers", 1, 8.0)
CASE = "512@60"


@pytest.fixture
def figures() -> dict:
    """Of all contestants in one case."""
    one = over_rounds([figure(BIG, played(), watched(0.05), samples(0.5), 2.0, {})])
    return {(CASE, name): one for name in CONTESTANTS if name != QUEUES}


def test_nothing_that_was_measured_is_left_out(figures: dict) -> None:
    text = page(figures, {(CASE, QUEUES): "it ended\nmore"}, {CASE: [3.3, 3.21, 3.0]}, ORIGIN)
    for name in CONTESTANTS:
        assert f"\n| {name} | " in text
    assert f"| {QUEUES} | failed: it ended |" in text
    assert "| ffmpeg, no network |  | 3.2 (3.0 to 3.3) |" in text
    assert all(said in text for said in ("a CPU, 2 cores", "pytrickle 0.1.6", "ffmpeg version 9", ORIGIN.command))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1, "a row has another length"


def test_what_was_not_there_is_named() -> None:
    text = page({}, {}, {}, Origin("a CPU", "", "", "command", 1, 8.0))
    assert f"Left out: {PYTRICKLE}, {QUEUES}." in text
    assert "FFmpeg's command line: none on PATH, left out." in text


def test_every_plot_is_a_whole_svg_file_with_a_bar_for_each(figures: dict) -> None:
    drawn = plots(figures, {CASE: [3.0]})
    assert list(drawn) == [f"peers-{kind}.svg" for kind in TITLES]
    for kind, text in zip(TITLES, drawn.values(), strict=True):
        root = ElementTree.fromstring(text)
        bars = root.findall("{http://www.w3.org/2000/svg}rect")
        assert len(bars) == len(figures) + {"cpu": 0, "memory": -1}.get(kind, 0), kind


def test_only_what_lies_between_the_marks_is_replaced(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_into(document, r"new \1", {"a.svg": "<svg/>"})
    assert document.read_text() == f"before\n{BEGIN}\n\nnew \\1\n\n{END}\nafter\n"
    assert (tmp_path / "images/a.svg").read_text() == "<svg/>"
    document.write_text("no marks")
    with pytest.raises(ValueError, match="needed are the lines"):
        put_into(document, "new", {})


def test_the_document_has_the_marks() -> None:
    text = (ROOT / DOCUMENT).read_text()
    assert text.index(BEGIN) < text.index(END)


@pytest.fixture
def a_program_called_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only one on PATH. It notes what it was told, and uses some CPU."""
    program = tmp_path / "ffmpeg"
    program.write_text(
        f'#!{sys.executable}\nimport sys\nopen("{tmp_path}/told", "a").write(" ".join(sys.argv[1:]) + "\\n")\n'
        'print("ffmpeg version 9 of somebody")\nfor _ in range(2_000_000): pass\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "told"


def test_ffmpeg_does_the_same_work(a_program_called_ffmpeg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.end_to_end_peers.cases.write_pattern", lambda *_, **__: 0)
    assert ffmpeg.version() == "ffmpeg version 9"
    limits = peers.FfmpegLimits(2.0)
    limits.measure(CASES["720p60-512"], Path("source.ts"))
    assert (list(limits.taken), limits.failures) == (["720p60-512"], {})
    told = a_program_called_ffmpeg.read_text().splitlines()[1:]
    assert [line.split("-frames:v ")[1].split()[0] for line in told] == ["120", "10"]
    for line in told:
        assert "crop=720:720,scale=512:512" in line
        assert "-preset superfast -tune zerolatency -crf 23" in line
        assert "-g 120 " in line


def test_an_ffmpeg_that_cannot_do_it_is_told_and_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!{sys.executable}\nimport sys\nsys.exit("Unknown encoder libx264")\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    limits = peers.FfmpegLimits(2.0)
    limits.measure(CASES[CASE], Path("source.ts"))
    text = page({}, limits.failures, limits.taken, ORIGIN)
    assert "| ffmpeg | failed: ffmpeg ended with 1: Unknown encoder libx264 |" in text


def test_what_is_published_has_more_rounds_than_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["peers", "--write", "--rounds", "1"])
    with pytest.raises(SystemExit, match="2"):
        peers.main()
    assert "--write: needed: --rounds 2 or more" in capsys.readouterr().err


def test_without_ffmpeg_there_are_no_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    limits = peers.FfmpegLimits(2.0)
    limits.measure(CASES[CASE], Path("source.ts"))
    assert (limits.taken, limits.failures) == ({}, {})
    assert ffmpeg.version() == ""


def test_a_contestant_that_was_too_late_for_all_has_a_row_and_a_place_in_the_plots(figures: dict) -> None:
    late = {key: msgspec.structs.replace(one, latency_p50_ms=math.nan) for key, one in figures.items()}
    text = page(late, {}, {}, ORIGIN) + "".join(plots(late, {}).values())
    assert "| none seen in time |" in text
    assert "nan" not in text
