"""How the pipeline is, in the words of Livepeer's workers: IDLE, LOADING, OK, ERROR, and DEGRADED."""

import asyncio
import contextlib
from typing import Literal

import msgspec

from pipeline.api.answers import under_way
from pipeline.api.launcher_line import LauncherLine
from pipeline.api.redact import redacted
from pipeline.control import LauncherSilent
from pipeline.status import Status

LOOK_SECONDS = 1.0

HealthState = Literal["IDLE", "LOADING", "OK", "DEGRADED", "ERROR"]


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """`reasons` says what is wrong when something is. IDLE: everything is loaded, and a stream may be asked for;
    OK: frames can flow; DEGRADED: a stage has failed for good; ERROR: the pipeline is at its end, or its launcher
    silent. `serves`: streams can be sent here although it is DEGRADED, see Status.serves."""

    status: HealthState
    reasons: list[str]
    serves: bool = False

    @property
    def http_status(self) -> int:
        """200 while a load balancer may send something here, or should wait for it."""
        return 200 if self.is_loaded or self.status == "LOADING" else 503

    @property
    def is_loaded(self) -> bool:
        """Whether streams can be sent here now, and need not wait for a model."""
        return self.status in ("IDLE", "OK") or self.serves


def health_of(status: Status) -> Health:
    reasons = [redacted(reason) for reason in status.reasons]
    if status.state == "DEGRADED":
        return Health("DEGRADED", reasons, status.serves)
    if status.state not in ("OK", "LOADING"):
        return Health("ERROR", [*reasons, f"the pipeline is {status.state}"])
    if status.state == "LOADING":
        loading = [
            f"{stage.stage} is {stage.state}" for stage in status.stages if stage.state in ("STARTING", "BACKOFF")
        ]
        return Health("LOADING", reasons + loading)
    return Health("IDLE" if waits_for_a_stream(status) else "OK", reasons)


async def wait_until_loaded(line: LauncherLine) -> None:
    """Return once streams can be sent here."""
    while True:
        with contextlib.suppress(LauncherSilent):
            if health_of(await line.look()).is_loaded:
                return
        await asyncio.sleep(LOOK_SECONDS)


def waits_for_a_stream(status: Status) -> bool:
    """Whether streams come on request, and none is under way. The stages of a stream are IDLE then."""
    return not under_way(status) and (bool(status.streams) or any(stage.state == "IDLE" for stage in status.stages))
