"""What source, viewer and pipeline say becomes figures, and what a load is refused for."""

import os

import msgspec
import pytest

from pipeline.bench.recovery import Kill, recovery
from pipeline.bench.report import LATENCY_EDGES_MS, StageUse
from pipeline.bench.step import Asked, Look, bottleneck, failings, figures, match, nearly_held
from pipeline.bench.usage import Used, used_by_worker
from pipeline.bench.words import UNREADABLE, Played, Watched
from pipeline.status import FrameCount, StageStatus, Status
from tests.bench.conftest import USES, step

FPS, COUNT, TICKS = 10, 100, 9000


def played(count=COUNT, late_ms=0.1):
    numbers = [index % 20 for index in range(count)]
    return Played(
        [TICKS * (1 + index) for index in range(count)], numbers, [i / FPS for i in range(count)], [late_ms] * count
    )


def watched(latency=0.05, lost=(), grows=0.0, shift=0):
    kept = [index for index in range(COUNT) if index not in lost]
    return Watched(
        [index / FPS + latency + grows * index for index in kept],
        [TICKS * (1 + index) + shift for index in kept],
        [index % 20 for index in kept],
        [(64, 64)] * len(kept),
        125_000,
    )


def stage(worker, busy_s=0.0, out=0, name=None):
    return StageStatus(
        stage=name or worker, worker=worker, state="READY", pid=1, restarts=0, uptime_s=1, units_in=out, units_out=out,
        rate_in=0, rate_out=0, latency_ms=(None, None), cpu_s=0, cpu_percent=0, rss_bytes=0, spares=0,
        passing_through=False, last_death="", busy_s=busy_s,
    )  # fmt: skip


def look(at, late=0, stages=(), **cpu_s):
    frames = FrameCount(decoded=100, delivered=100 - late, dropped={"late": late, "crash": 3}, in_flight=0)
    status = Status("p", "OK", [], 1.0, list(stages), [], frames, 0, 0.0, (None, None))
    used = {worker: Used(seconds, 50.0) for worker, seconds in cpu_s.items()} | {"launcher": Used(0.1 * at, 50.0)}
    return Look(at, status, used, harness_s=0.2 * at, machine_s=1.5 * at)


def figured(played=None, watched_=None, before=None, after=None, problems=()):
    pairs = [(played or globals()["played"](), watched_ or watched())]
    asked = Asked("search", 1, FPS, 100.0, 2.0, 9.95)
    return figures(asked, pairs, before or look(2.0), after or look(9.95), {}, problems)


def test_only_what_was_sent_after_the_warm_up_counts():
    one = figured(watched_=watched(lost=(5, 50)))
    assert (one.sent, one.arrived) == (80, 79)
    assert (one.p50_ms, one.p99_ms) == (pytest.approx(50), pytest.approx(50))
    assert (sum(one.latencies), one.latencies[LATENCY_EDGES_MS.index(64)]) == (79, 79)
    assert (one.late, one.dropped) == (0, {}), "what was dropped before the step is not the step's"
    assert one.numbered == 1.0


def test_a_picture_that_bears_another_number_is_an_old_one():
    seen = watched()
    seen.numbers[50:60] = [seen.numbers[49]] * 10
    one = figured(watched_=seen)
    assert (one.arrived, one.numbered) == (70, pytest.approx(0.875))


def test_of_several_streams_each_has_to_hold():
    """One that fares badly is not lost among those that fare well."""
    well, badly = watched(), watched(latency=0.5, lost=range(60, 70))
    asked = Asked("streams", 8, FPS, 100.0, 2.0, 9.95)
    pairs = [(played(), well)] * 7 + [(played(), badly)]
    one = figures(asked, pairs, look(2.0), look(9.95), {})
    assert one.p50_ms == pytest.approx(50)
    assert (one.worst_p95_ms, one.worst_arrived) == (pytest.approx(500), 0.875)
    assert one.failings == ["87.5% of one stream arrived", "latency p95 of one stream 500 ms, above 100"]


def test_where_no_number_can_be_read_the_time_stamp_has_to_do():
    seen = watched()
    one = figured(watched_=Watched(seen.at, seen.pts, [UNREADABLE] * COUNT, seen.sizes, 1))
    assert (one.arrived, one.numbered) == (80, None)


def test_a_time_stamp_may_be_rounded_and_no_more():
    assert figured(watched_=watched(shift=1)).arrived == 80
    assert figured(watched_=watched(shift=2)).arrived == 0


def test_stages_of_several_streams_are_counted_together():
    before = look(2.0, stages=[stage("decode", 1.0, 10)], decode=1.0)
    stages = [stage("decode", 4.18, 90), stage("decode", 1.59, 40, "decode2")]
    uses = {use.stage: use for use in figured(before=before, after=look(9.95, 0, stages, decode=3.385)).stages}
    assert uses["decode"].cores == pytest.approx(0.3)
    assert uses["decode"].busy == pytest.approx(0.4), "the busiest of them"
    assert uses["decode"].busy_ms == pytest.approx(1000 * 4.77 / 120)
    assert uses["decode"].cpu_ms == pytest.approx(1000 * 2.385 / 80)
    assert uses["launcher"].cores == pytest.approx(0.1)
    assert (uses["launcher"].busy, uses["launcher"].busy_ms) == (None, None)


def test_processes_are_told_apart_by_their_worker():
    used = used_by_worker(os.getpid())
    assert list(used) == ["launcher"]
    assert used["launcher"].cpu_s > 0
    assert used["launcher"].rss_mb > 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"arrived": 148}, "148 of 150 pictures arrived"),
        ({"late": 2}, "2 frames were dropped as late"),
        ({"p95_ms": 101.0}, "latency p95 101 ms, above 100"),
        ({"drift_ms": 60.0}, "latency grew by 60 ms"),
        ({"source_late_ms": 30.0}, "the source was 30 ms late: there was no CPU left for it"),
        ({"sent": 0, "arrived": 0}, "the source sent nothing"),
        ({"dropped": {"processor_error": 75}}, "75 frames were dropped: processor_error"),
        ({"streams": 4, "worst_arrived": 0.62}, "62.0% of one stream arrived"),
        ({"streams": 4, "worst_p95_ms": 500.0}, "latency p95 of one stream 500 ms, above 100"),
    ],
)
def test_a_load_is_refused_for_a_reason(changes, why):
    assert failings(step(), 100.0) == []
    assert failings(step(**changes), 100.0) == [why]


def test_a_latency_that_grows_is_told():
    assert figured(watched_=watched(grows=0.01)).drift_ms == pytest.approx(600)
    assert figured(problems=["decode died"]).failings == ["decode died"]


def test_what_limits_is_the_stage_that_rests_least_unless_the_machine_is_full():
    assert bottleneck(step(), 2) == "inference, busy 80% of the time"
    assert bottleneck(step(cores_busy=1.95), 2).startswith("the machine's 2 cores, most of them for inference (0.80)")
    assert "other programs" in bottleneck(step(cores_busy=1.95, cores_others=1.0), 2)
    assert bottleneck(step(gpus={"0: a card": 0.99}), 2).startswith("GPU 0: a card, busy 99% of the time")
    idle = [msgspec.structs.replace(use, busy=use.busy and 0.15) for use in USES]
    assert bottleneck(step(stages=idle, failings=["225 pictures were left out"]), 2) == (
        "none of its stages, of which the busiest was decode, busy 15% of the time (225 pictures were left out)"
    )
    relay = StageUse("relay", None, None, 0.97, 9.0, 30.0)
    assert bottleneck(step(stages=[*idle, relay]), 16) == "relay, whose one thread kept 0.97 of a core busy"
    assert bottleneck(step(stages=USES[:1]), 2) == "unknown"


def test_a_recovery_ends_with_the_first_picture_after_the_successor_took_over():
    seen = watched(lost=(30, 31, 32))
    kill = Kill("egress", FPS, at=3.0, taken_over=3.2)
    found = recovery(kill, played(), seen)
    assert (found.new_ms, found.gap_ms, found.lost) == (pytest.approx(350), pytest.approx(400), 3)
    assert found.dark_ms == found.gap_ms


def test_pictures_under_way_when_the_stage_died_do_not_end_the_recovery():
    found = recovery(Kill("decode", FPS, at=3.0, taken_over=4.0), played(), watched())
    assert (found.new_ms, found.lost) == (pytest.approx(1050), 0)
    assert found.gap_ms == pytest.approx(100)


def test_a_stage_that_did_not_come_back_has_no_time():
    assert recovery(Kill("decode", FPS, 3.0, None, "it is gone"), played(), watched()).problem == "it is gone"
    assert recovery(Kill("decode", FPS, 3.0, 99.0), played(), watched()).problem == "no new picture came"


def test_a_number_without_a_picture_of_its_own_never_arrives():
    assert match(played(1), Watched([], [], [], [], 0)).arrived == [float("inf")]


def test_a_step_that_failed_by_little_may_have_been_an_accident():
    assert nearly_held(step(arrived=140, late=10), 100.0)
    assert nearly_held(step(p95_ms=199.0), 100.0)
    assert not nearly_held(step(arrived=130), 100.0)
    assert not nearly_held(step(p95_ms=201.0), 100.0)
