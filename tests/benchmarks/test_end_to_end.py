"""The benchmark of whole contestants plays, watches and counts, and refuses what cannot be right. No times asserted."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import end_to_end
from benchmarks.end_to_end_peers import heat
from benchmarks.end_to_end_peers.cases import CASES, SUSTAINED, Case
from benchmarks.end_to_end_peers.contestants import CONTESTANTS, CONTROL, FLOOR, NEEDS_PYTRICKLE, OURS
from benchmarks.end_to_end_peers.heat import Figure, Nonsense, figure, over_rounds
from benchmarks.end_to_end_peers.report import goals, markdown
from benchmarks.end_to_end_peers.said import Played, Watched
from benchmarks.end_to_end_peers.usage import Sample
from benchmarks.onlooker import UNREADABLE, Sighting
from benchmarks.trickle_peers.catalogue import CLIENTS, PYTRICKLE
from benchmarks.trickle_peers.processes import RelayProcess

SMALL = Case("small", 160, 120, 30, 128, 96, 300_000)
SECONDS, WARM_UP_S = 3.0, 0.5
FPS, COUNT = 10, 100
BIG = Case("big", 64, 64, FPS, 64, 64, 100_000)


@pytest.fixture(scope="module")
def relay() -> Iterator[RelayProcess]:
    with RelayProcess() as relay:
        yield relay


@pytest.mark.parametrize("name", CONTESTANTS)
def test_what_is_played_to_a_contestant_is_seen_and_counted(
    name: str, relay: RelayProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in NEEDS_PYTRICKLE and not CLIENTS[PYTRICKLE].installed:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setattr(heat, "SETTLE_S", 1.0)
    source = SMALL.write_source(tmp_path, SECONDS, with_sound=True)

    seen = heat.run(name, SMALL, relay, tmp_path, source, SECONDS, WARM_UP_S)

    assert 0 < seen.sent <= SMALL.fps * SECONDS
    assert seen.lost < seen.sent
    assert 0 < seen.latency_p50_ms <= seen.latency_p95_ms
    assert min(seen.fps, seen.first_ms, seen.kbit_per_s) > 0
    assert {"relay", "source", "viewer", "harness"} == set(seen.harness_cpu_ms)
    assert (seen.cpu_ms > 0) == (seen.rss_start_mb > 0) == (name != CONTROL)
    if name == OURS:
        assert {"launcher", "ingress", "decode", "inference", "egress"} == set(seen.cpu_by_process)


def played(count: int = COUNT) -> Played:
    return Played(sent=[index / FPS for index in range(count)], late_ms=[0.1] * count)


def watched(latency: float = 0.05, lost: tuple[int, ...] = (), size: tuple[int, int] = (64, 64)) -> Watched:
    seen = [Sighting(index / FPS + latency, index) for index in range(COUNT) if index not in lost]
    return Watched(seen, [size], video_bytes=125_000, problem="")


def samples(cores: float = 0.5, others: float = 0.0) -> list[Sample]:
    """One a second: the contestant, in two processes, and somebody else use so many cores, and memory grows by 2 MB."""
    return [
        Sample(
            float(at),
            cpu_s={"a": at * cores / 2, "b": at * cores / 2},
            rss_mb={"a": 100.0 + at, "b": 50.0 + at},
            harness_s={"relay": at * 0.01, "source": 0.0, "viewer": 0.0, "harness": 0.0},
            machine_s=at * (cores + others + 0.01),
        )
        for at in range(11)
    ]


def test_what_is_behind_the_last_that_was_seen_is_late_and_not_lost() -> None:
    one = figure(BIG, played(), watched(lost=(50, *range(90, 100))), samples(), warm_up=2.0, dropped={})
    assert (one.sent, one.lost, one.waiting) == (80, 1, 10)


def test_several_rounds_have_a_range() -> None:
    rounds = [
        figure(BIG, played(), watched(late), samples(cores), 2.0, {}) for late, cores in ((0.05, 0.5), (0.07, 1.0))
    ]
    one, many = over_rounds(rounds[:1]), over_rounds(rounds)
    assert (one.cpu_range, one.latency_range) == (None, None)
    assert many.latency_range == (pytest.approx(50), pytest.approx(70))
    assert many.cpu_range == (rounds[0].cpu_ms, rounds[1].cpu_ms)


def test_figures_are_of_the_time_after_the_warm_up() -> None:
    one = figure(BIG, played(), watched(lost=(5, 50)), samples(), warm_up=2.0, dropped={"late": 1})

    assert one.lost == 1, "picture 5 belongs to the warm-up"
    assert one.sent == 80
    assert one.fps == pytest.approx(69 / 7)
    assert one.cpu_ms == pytest.approx(1000 * 3.5 / 69)
    assert one.cpu_by_process == {"a": pytest.approx(1000 * 1.75 / 69), "b": pytest.approx(1000 * 1.75 / 69)}
    assert one.latency_p50_ms == pytest.approx(50)
    assert one.first_ms == pytest.approx(50)
    assert one.drift_ms == pytest.approx(0, abs=1e-6)
    assert (one.rss_start_mb, one.rss_end_mb) == (154, 168)
    assert one.rss_slope == pytest.approx(120)
    assert one.kbit_per_s == pytest.approx(100)
    assert one.doubts == []


def test_a_picture_that_is_shown_again_counts_once_and_from_when_it_was_first_there() -> None:
    seen = watched()
    twice = Watched([*seen.seen, *(Sighting(one.at + 0.01, one.index) for one in seen.seen)], seen.sizes, 1, "")

    once, again = (figure(BIG, played(), what, samples(), 2.0, {}) for what in (seen, twice))

    assert (once.fps, once.latency_p50_ms) == (again.fps, again.latency_p50_ms)


def test_a_latency_that_grows_is_a_drift() -> None:
    late = Watched([Sighting(i / FPS + i / 1000, i) for i in range(COUNT)], [(64, 64)], 1, "")
    assert figure(BIG, played(), late, samples(), 0.0, {}).drift_ms == pytest.approx(75)


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (Watched([], [], 0, "the relay is gone"), "the relay is gone"),
        (Watched([], [], 0, ""), "nobody saw a picture"),
        (watched(size=(32, 32)), r"pictures of \[\(32, 32\)\], wanted 64x64"),
        (Watched([Sighting(1.0, UNREADABLE)], [(64, 64)], 1, ""), "1 of 1 pictures bear no number"),
        (Watched([Sighting(1.0, COUNT)], [(64, 64)], 1, ""), "picture 100 was seen, and 100 were sent"),
        (Watched([Sighting(-1.0, 50)], [(64, 64)], 1, ""), "picture 50 was seen before it was sent"),
        (Watched([Sighting(0.5, 0)], [(64, 64)], 1, ""), "no picture arrived after the warm-up"),
    ],
)
def test_what_cannot_be_right_is_no_figure(seen: Watched, why: str) -> None:
    with pytest.raises(Nonsense, match=why):
        figure(BIG, played(), seen, samples(), 2.0, {})


def test_a_source_that_ends_with_the_warm_up_is_no_figure() -> None:
    with pytest.raises(Nonsense, match="too short"):
        figure(BIG, played(), watched(), samples(), 9.5, {})


def test_a_machine_that_was_busy_and_a_source_that_was_late_raise_doubts() -> None:
    late = Played(played().sent, [500.0] * COUNT)
    doubts = figure(BIG, late, watched(), samples(others=0.7), 2.0, {}).doubts
    assert doubts == ["the source was 500 ms late (p95)", "0.70 cores were busy for somebody else"]


def test_the_report_has_every_goal_and_says_which_are_missed() -> None:
    def cell(latency: float, cores: float) -> Figure:
        return over_rounds([figure(BIG, played(), watched(latency), samples(cores), 2.0, {})] * 3)

    table = {
        (SUSTAINED, CONTROL): cell(0.01, 0.0),
        (SUSTAINED, FLOOR): cell(0.02, 0.2),
        (SUSTAINED, OURS): cell(0.02, 0.24),
        (SUSTAINED, PYTRICKLE): cell(0.11, 0.6),
    }
    met = {goal.what: (goal.value, goal.met) for goal in goals(table)}
    assert met["CPU a picture, livepipe / pytrickle"] == (pytest.approx(0.4), False)
    assert met["CPU a picture, livepipe / one process"] == (pytest.approx(1.2), True)
    assert met["added latency p50, livepipe / pytrickle"] == (pytest.approx(0.1), True)
    assert met["pictures a second"] == (pytest.approx(10, rel=0.05), False)

    shown = markdown(table, {("512@60", PYTRICKLE): "pytrickle ended\nmore"})
    assert "failed: pytrickle ended |" in shown
    assert "| NO |" in shown
    assert len({line.count("|") for line in shown.split("\n\n")[0].splitlines()}) == 1, "a row has another length"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--rounds", "0"], "--rounds 0: needed: 1 or more"),
        (["--seconds", "3"], "--seconds 3: needed: 7 to 600"),
        (["--cases", "8K"], "invalid choice: '8K'"),
        (["--contestants", "nobody"], "invalid choice: 'nobody'"),
        (["--json", "nowhere/at/all.json"], "there is no folder nowhere/at"),
    ],
)
def test_nonsense_is_refused_before_anything_starts(
    arguments: list[str], why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["end_to_end", *arguments])
    with pytest.raises(SystemExit, match="2"):
        end_to_end.main()
    assert why in capsys.readouterr().err


def test_the_cases_are_what_their_names_say() -> None:
    for case in CASES.values():
        assert case.name.startswith(f"{case.height}")
        assert str(case.fps) in case.name
