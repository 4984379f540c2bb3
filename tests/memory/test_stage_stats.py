import math
import os
import subprocess
import sys
import time

import pytest

from pipeline.memory.stage_stats import (
    BUCKETS_PER_OCTAVE,
    STATS_BYTES,
    TOLD_EDGES_S,
    Span,
    StageStats,
    StageTotals,
    Word,
)

COUNT_AND_DIE = """
import os, signal, sys
from pipeline.memory.stage_stats import Span, StageStats, Word
stats = StageStats(int(sys.argv[1]))
stats.busy()
stats.out()
stats.record(Span.STAGE, 8_000_000)
os.kill(os.getpid(), signal.SIGKILL)
"""
BUCKET = 2 ** (1 / BUCKETS_PER_OCTAVE)


@pytest.fixture
def stats(slab_fd):
    stats = StageStats(slab_fd(STATS_BYTES))
    yield stats
    stats.close()


def test_a_new_slab_is_all_zeros(stats):
    assert [stats[word] for word in Word] == [0] * len(Word)


def test_words_do_not_overlap_the_histograms(stats):
    for word in Word:
        stats[word] = 1
    assert all(math.isnan(q) for span in Span for q in StageTotals([stats]).quantiles_ms(span, 0.5))


def test_a_crash_takes_no_counter_with_it(slab_fd):
    fd = slab_fd(STATS_BYTES)
    subprocess.run([sys.executable, "-c", COUNT_AND_DIE, str(fd)], pass_fds=[fd], check=False)
    stats = StageStats(fd)
    assert stats[Word.UNITS_OUT] == 1
    assert StageTotals([stats]).quantiles_ms(Span.STAGE, 0.5)[0] == pytest.approx(8, rel=BUCKET - 1)


def test_a_successor_is_not_blamed_for_what_its_predecessor_was_busy_with(slab_fd):
    fd = slab_fd(STATS_BYTES)
    subprocess.run([sys.executable, "-c", COUNT_AND_DIE, str(fd)], pass_fds=[fd], check=False)
    stats = StageStats(fd)
    assert stats[Word.BUSY_SINCE_NS] > 0
    stats.clear_life()
    assert stats[Word.BUSY_SINCE_NS] == 0
    assert stats[Word.HEARTBEAT_NS] > 0
    assert stats[Word.UNITS_OUT] == 1


def test_busy_names_the_moment_and_idle_counts_the_progress(stats):
    before = time.monotonic_ns()
    stats.busy()
    assert before <= stats[Word.BUSY_SINCE_NS] <= time.monotonic_ns()
    stats.idle()
    assert (stats[Word.BUSY_SINCE_NS], stats[Word.PROGRESS]) == (0, 1)


def test_the_first_unit_out_sets_the_start_once(stats):
    stats.out()
    first = stats[Word.FIRST_OUT_NS]
    stats.out()
    assert stats[Word.FIRST_OUT_NS] == first
    assert stats[Word.LAST_OUT_NS] >= first
    assert stats[Word.UNITS_OUT] == 2


def test_a_unit_may_be_noted_as_of_before_it_could_be_seen(stats):
    stats.out(17)
    assert (stats[Word.FIRST_OUT_NS], stats[Word.LAST_OUT_NS], stats[Word.UNITS_OUT]) == (17, 17, 1)


def test_amounts_add_up(stats):
    stats.add(Word.BYTES_IN, 188)
    stats.add(Word.BYTES_IN)
    assert stats[Word.BYTES_IN] == 189


@pytest.mark.parametrize("milliseconds", [0.001, 0.5, 1, 16.7, 1234, 40_000])
def test_a_quantile_is_right_to_the_width_of_a_bucket(stats, milliseconds):
    stats.record(Span.STAGE, int(milliseconds * 1e6))
    assert StageTotals([stats]).quantiles_ms(Span.STAGE, 0.5)[0] == pytest.approx(milliseconds, rel=BUCKET - 1)


def test_quantiles_tell_the_common_from_the_rare(stats):
    for _ in range(90):
        stats.record(Span.END_TO_END, 10_000_000)
    for _ in range(10):
        stats.record(Span.END_TO_END, 500_000_000)
    p50, p90, p95, top = StageTotals([stats]).quantiles_ms(Span.END_TO_END, 0.5, 0.9, 0.95, 1.0)
    assert p50 == p90 == pytest.approx(10, rel=BUCKET - 1)
    assert p95 == top == pytest.approx(500, rel=BUCKET - 1)


def test_spans_are_counted_apart(stats):
    stats.record(Span.STAGE, 1_000_000)
    assert math.isnan(StageTotals([stats]).quantiles_ms(Span.END_TO_END, 0.5)[0])


@pytest.mark.parametrize("nanoseconds", [-5, 0, 10**15])
def test_durations_off_the_scale_are_counted_at_its_ends(stats, nanoseconds):
    stats.record(Span.STAGE, nanoseconds)
    (median,) = StageTotals([stats]).quantiles_ms(Span.STAGE, 0.5)
    assert median < 0.002 if nanoseconds <= 0 else median > 40_000


def test_closing_gives_the_mapping_back(slab_fd):
    fd = slab_fd(STATS_BYTES)
    before = len(os.listdir("/proc/self/fd"))
    StageStats(fd).close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_total_of_this_life_goes_on_from_what_the_predecessors_counted(slab_fd):
    fd = slab_fd(STATS_BYTES)
    StageStats(fd).total(Word.SKIPPED, 7)

    successor = StageStats(fd)
    successor.total(Word.SKIPPED, 2)
    successor.total(Word.SKIPPED, 3)

    assert successor[Word.SKIPPED] == 10


def test_median_and_95th_are_none_before_anything_was_recorded(stats):
    assert StageTotals([stats]).p50_p95_ms(Span.STAGE) == (None, None)
    stats.record(Span.STAGE, 5_000_000)
    assert StageTotals([stats]).p50_p95_ms(Span.STAGE) == (pytest.approx(5, rel=0.08), pytest.approx(5, rel=0.08))


def test_the_counters_of_several_processes_of_a_stage_add_up(slab_fd):
    seats = [StageStats(slab_fd(STATS_BYTES)) for _ in range(3)]
    for seat, (frames, milliseconds) in zip(seats[:2], ((3, 8), (1, 100)), strict=True):
        for _ in range(frames):
            seat.record(Span.STAGE, milliseconds * 1_000_000)
            seat.out()
    totals = StageTotals(seats)
    assert totals[Word.UNITS_OUT] == 4
    assert totals[Word.FIRST_OUT_NS] == seats[0][Word.FIRST_OUT_NS]
    assert totals[Word.LAST_OUT_NS] == seats[1][Word.LAST_OUT_NS]
    p50, top = totals.quantiles_ms(Span.STAGE, 0.5, 1.0)
    assert p50 == pytest.approx(8, rel=BUCKET - 1)
    assert top == pytest.approx(100, rel=BUCKET - 1)
    assert totals.p50_p95_ms(Span.END_TO_END) == (None, None)


@pytest.fixture
def clock(monkeypatch):
    """clock(seconds) -> the time that the counters see from now on."""

    def at(seconds):
        monkeypatch.setattr(time, "monotonic_ns", lambda: int(seconds * 1e9))

    return at


def work(stats, clock, start, end):
    clock(start)
    stats.busy()
    clock(end)
    stats.idle()


def test_time_spent_on_work_adds_up_over_processes_and_seats(slab_fd, clock):
    fds = [slab_fd(STATS_BYTES) for _ in range(2)]
    work(StageStats(fds[0]), clock, 10, 10.5)
    successor, spare = StageStats(fds[0]), StageStats(fds[1])
    work(successor, clock, 20, 21)
    work(spare, clock, 30, 30.25)
    spare.idle()
    assert StageTotals([successor, spare]).busy_s() == 1.75


def test_work_under_way_counts_up_to_the_last_sign_of_life(stats, clock):
    totals = StageTotals([stats])
    clock(10)
    stats.busy()
    clock(13)
    stats.beat()
    clock(99)
    assert totals.busy_s() == 3
    stats.clear_life()  # It died; its successor has not begun to work.
    assert totals.busy_s() == 3
    work(stats, clock, 200, 201)
    assert totals.busy_s() == 4


def test_the_time_spent_on_work_never_goes_back(stats, clock):
    totals = StageTotals([stats])
    clock(10)
    stats.busy()
    clock(13)
    stats.beat()
    assert totals.busy_s() == 3
    stats[Word.BUSY_SINCE_NS] = 0  # Its end, as seen between the two stores that tell it.
    assert totals.busy_s() == 3


def test_a_life_begins_with_its_own_first_unit(stats, clock):
    clock(1)
    stats.out()
    clock(2)
    stats.clear_life()
    assert stats[Word.LIFE_OUT_NS] == 0
    clock(3)
    stats.out()
    clock(4)
    stats.out()
    assert (stats[Word.LIFE_OUT_NS], stats[Word.FIRST_OUT_NS]) == (3 * 10**9, 10**9)


def test_a_histogram_is_told_by_fewer_edges_and_moves_nothing(slab_fd):
    seats = [StageStats(slab_fd(STATS_BYTES)) for _ in range(2)]
    around = [edge * factor for edge in TOLD_EDGES_S for factor in (0.999, 1.001)]
    for index, seconds in enumerate([*around, 0.0, 40.0]):
        seats[index % 2].record(Span.STAGE, round(seconds * 1e9))
    told = StageTotals(seats).durations(Span.STAGE)
    assert told.edges_s == TOLD_EDGES_S
    assert told.counts == (2, *[2] * (len(TOLD_EDGES_S) - 1), 2)
    assert told.total == len(around) + 2
    assert told.sum_s == pytest.approx(sum(around) + 40)
    assert StageTotals(seats).durations(Span.END_TO_END).total == 0
