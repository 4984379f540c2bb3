"""The benchmark of changes really changes, watches and counts. No times are asserted."""

from benchmarks.changes import OVERLOAD_MS, measure_changes, measure_overload


def test_changes_are_seen_by_a_viewer() -> None:
    found = measure_changes(1, size=256, smaller=192)
    assert found.keys() == {"parameter", "size", "renew"}
    for kind, done in found.items():
        assert len(done) == 1, kind
        for change in done:
            assert 0 < change.in_force_ms < change.first_ms
            assert change.frames >= 0
            assert change.gap_ms > 0


def test_a_processor_that_is_too_slow_is_measured() -> None:
    found = measure_overload(2.0, size=256)
    assert 0 < found.busy <= 1.1
    p50, p95 = found.latency_ms
    assert OVERLOAD_MS <= p50 <= p95
