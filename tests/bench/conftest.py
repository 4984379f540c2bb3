"""Reports that are made, and not measured."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pipeline.bench.report import (
    LATENCY_EDGES_MS,
    VERSION,
    Limit,
    Machine,
    Recovery,
    Report,
    Settings,
    StageUse,
    Step,
)

USES = [
    StageUse("ingress", None, None, 0.05, 0.5, 30.0),
    StageUse("decode", 0.2, 2.0, 0.2, 2.0, 70.0),
    StageUse("inference", 0.8, 8.0, 0.8, 8.0, 280.0),
    StageUse("egress", 0.4, 4.0, 0.4, 4.0, 75.0),
]


def step(**changes: Any) -> Step:
    """One that holds, at 30 fps."""
    one = Step(
        purpose="search",
        streams=1,
        fps=30.0,
        seconds=5.0,
        sent=150,
        arrived=150,
        late=0,
        dropped={},
        p50_ms=20.0,
        p95_ms=30.0,
        p99_ms=40.0,
        max_ms=45.0,
        drift_ms=0.0,
        latencies=[0] * 9 + [150] + [0] * (len(LATENCY_EDGES_MS) - 9),
        numbered=1.0,
        source_late_ms=0.5,
        kbit_per_s=1500.0,
        stages=USES,
        harness_cores=0.1,
        cores_busy=1.2,
        cores_others=0.0,
        gpus={"0: a card": 0.5},
        failings=[],
    )
    return msgspec.structs.replace(one, **changes)


@pytest.fixture
def make_report() -> Callable[..., Report]:
    """make_report(rates, latencies, recoveries) -> a report with a search for each of `rates`, a reference step for
    each p50 of `latencies`, and a kill of inference for each of `recoveries`."""

    def make(
        rates: list[float] = [60.0, 61.0, 62.0],  # noqa: B006
        latencies: list[float] = [20.0, 20.5, 21.0],  # noqa: B006
        recoveries: list[float] = [1500.0, 1600.0, 1700.0],  # noqa: B006
        **changes: Any,
    ) -> Report:
        steps = [step(fps=rate, purpose="search") for rate in rates]
        steps += [step(fps=2 * rate, failings=["<late>"], cores_busy=0.5) for rate in rates]
        steps += [step(purpose="reference", p50_ms=p50) for p50 in latencies]
        report = Report(
            version=VERSION,
            began="2026-01-01T00:00:00+00:00",
            interrupted=False,
            problem="",
            machine=Machine("a CPU", 2, 8000, [], "Linux", "3.11", {"torch": "2"}, 0.1),
            settings=Settings("t.yaml", "m:f", "livepipe bench t.yaml", 64, 64, 5.0, 100.0, 480.0, 30.0, 3, 3),
            warnings=[],
            limits=[Limit(rate, 2 * rate) for rate in rates],
            steps=steps,
            most_streams=1,
            streams_allowed=1,
            recoveries=[Recovery("inference", 30.0, new, new, 100.0, 40) for new in recoveries],
        )
        return msgspec.structs.replace(report, **changes)

    return make
