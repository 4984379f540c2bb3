"""A long run's figures: what is a slope, what is growth, what was lost when. The run itself is `make soak`."""

import math
import sys
from itertools import count

import pytest

from benchmarks import soak
from benchmarks.soak_figures import Kill, Minute, Sample, Soak, per_minute, slope, slopes_of, victim
from benchmarks.soak_page import soak_page
from pipeline.bench.report import Machine
from pipeline.bench.words import UNREADABLE, Played, Watched
from pipeline.status import FrameCount

HOUR = [float(second) for second in range(0, 3600, 10)]
SPINE = ("ingress", "decode", "inference", "egress")


def sample(at: float, rss_mb: float, pid: int | None = 1) -> Sample:
    return Sample(at, {"relay": rss_mb}, {"relay": 20}, {"relay": pid})


def test_a_leak_is_told_from_scatter() -> None:
    noise = count()
    leaks = [100 + second * 20 / 3600 + next(noise) % 3 for second in HOUR]
    found = slope("rss of a", "MB", HOUR, leaks)
    assert found.grows
    assert found.per_hour == pytest.approx(20, abs=1)
    assert found.error < 1
    assert found.seconds == 3590


@pytest.mark.parametrize(
    "values",
    [
        [100.0 + index % 3 for index in range(360)],
        [100.0 + 4 * second / 3600 for second in HOUR],
        [100.0 - second / 36 for second in HOUR],
        [27.0] * 359 + [28.0],
        [27.0] * 180 + [29.0] * 180,
        [100.0 + 30 * (1 - math.exp(-second / 600)) for second in HOUR],
    ],
    ids=["scatters", "less than 5 %", "falls", "one more at the end", "a step", "fills up"],
)
def test_what_does_not_go_on_growing_is_no_leak(values: list[float]) -> None:
    assert not slope("rss of a", "MB", HOUR, values).grows


def test_two_values_make_no_slope() -> None:
    assert slope("x", "MB", [0.0, 1.0], [1.0, 9.0]).error == float("inf")


def test_the_start_of_a_process_is_in_no_slope() -> None:
    filling = [sample(at, min(70.0, 10.0 + at)) for at in map(float, range(1200))]
    found = {one.what: one for one in slopes_of(filling, [])}
    assert (found["rss of relay"].per_hour, found["rss of relay"].median) == (pytest.approx(0, abs=1e-6), 70)
    assert not found["fds of relay"].grows


def test_a_stage_that_is_killed_is_judged_by_its_longest_life() -> None:
    """Where each life begins anew with its memory, a line through all of them would be flat."""
    pids = [1] * 300 + [None] * 10 + [2] * 800 + [3] * 90
    born = {1: 0, 2: 310, 3: 1110}
    samples = [
        sample(float(at), 0.0 if pid is None else 50 + 0.02 * (at - born[pid]), pid) for at, pid in enumerate(pids)
    ]
    found = {one.what: one for one in slopes_of(samples, [])}["rss of relay"]
    assert found.grows
    assert found.per_hour == pytest.approx(72, abs=1)
    assert found.seconds == pytest.approx(620, abs=1)


def test_a_stage_that_never_lived_has_no_slope() -> None:
    assert not slopes_of([sample(float(at), 0.0, None) for at in range(10)], [])[0].grows


def test_each_stage_is_killed_and_left_alone_in_a_part_of_its_own() -> None:
    kills = [victim(number, number / 120, SPINE) for number in range(120)]
    assert set(kills) == set(SPINE)
    for place, spared in enumerate(SPINE):
        part = kills[30 * place : 30 * (place + 1)]
        assert spared not in part
        assert len(set(part)) == 3
    assert victim(0, 1.0, SPINE) in SPINE


def test_pictures_are_counted_in_the_minute_in_which_they_were_sent() -> None:
    sent = [float(second) for second in range(150)]
    pts = [second * 90_000 for second in range(150)]
    seen = [second for second in range(150) if second not in (70, 71)]
    watched = Watched([s + 0.05 for s in seen], [s * 90_000 for s in seen], [UNREADABLE] * len(seen), [], 0)
    minutes = per_minute(Played(pts, [0] * 150, sent, [0.0] * 150), watched)
    assert [(one.at, one.sent, one.lost) for one in minutes] == [(0.0, 60, 0), (60.0, 60, 2)], "whole minutes"
    assert minutes[0].p50_ms == pytest.approx(50)
    assert per_minute(Played([], [], [], []), Watched([], [], [], [], 0)) == []


def test_the_page_and_the_tables_show_every_problem() -> None:
    samples = [sample(at, 30.0 + at) for at in HOUR]
    minutes = [Minute(60.0 * number, 20.0, 30.0, 1800, 1) for number in range(60)]
    machine = Machine("a CPU", 2, 8000, [], "Linux", "3.11", {}, 0.1)
    frames = FrameCount(10, 9, {"late": 1}, 0)
    kills = [Kill(30.0, "decode", 120.0), Kill(60.0, "egress", None)]
    slopes = slopes_of(samples, minutes)
    found = Soak(machine, "t.yaml", 24, 30, 3600, samples, minutes, kills, slopes, frames, ["rss of relay grows"])
    page = soak_page(found)
    assert "rss of relay grows" in page
    assert page.count("<svg") == 3
    assert "never" in page
    assert any("rss of relay grows" in str(part) for part in soak.tables(found))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--minutes", "0"], "--minutes 0: needed: more than 0"),
        (["--every", "1"], "--every 1: needed: 2 or more"),
        (["--share", "1.5"], "--share 1.5: needed: more than 0, at most 1"),
        (["--fps", "0"], "--fps 0: needed: more than 0"),
        (["--json", "nowhere/x.json"], "there is no folder nowhere"),
        (["nowhere.yaml"], "nowhere.yaml: No such file or directory"),
    ],
)
def test_nonsense_is_refused_before_anything_starts(
    arguments: list[str], why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["soak", *arguments])
    with pytest.raises(SystemExit, match="2"):
        soak.main()
    assert why in capsys.readouterr().err
