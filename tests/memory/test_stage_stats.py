import math
import os
import subprocess
import sys
import time

import pytest

from pipeline.memory.stage_stats import BUCKETS_PER_OCTAVE, STATS_BYTES, Span, StageStats, StageTotals, Word

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
