"""The benchmark of recoveries really kills, watches and counts. No times are asserted."""

from rich.console import Console

from benchmarks.recovery import Result, measure, tables

KILLS = 2


def shown(results: list[Result]) -> str:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(*tables(results), sep="\n")
    return capture.get()


def test_a_stage_is_killed_and_the_report_has_its_figures() -> None:
    (result,) = measure(["decode"], kills=KILLS, size=256)

    assert len(result.recoveries) == KILLS
    for recovery in result.recoveries:
        assert 0 < recovery.died_ms < recovery.loaded_ms < recovery.new_ms
        assert 0 < recovery.dark_ms <= recovery.stale_ms
        assert recovery.lost >= 0
    totals = result.totals
    assert 0 < totals.seen <= totals.source
    assert totals.balanced
    assert (totals.in_flight, totals.undecoded, totals.unseen) == (0, 0, 0)
    assert (totals.doubled, totals.out_of_order, totals.unreadable) == (0, 0, 0)
    for usage in (result.before, result.after):
        assert usage.launcher_fds > 0
        assert all(megabytes > 0 for megabytes in (usage.launcher_mb, *usage.stages_mb.values()))
    assert "decode" in shown([result])
