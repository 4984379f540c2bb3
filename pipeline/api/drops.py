"""Which stage dropped a frame: a link counts what became of its frames, and the reason says which of its two ends did
it."""

from pipeline.memory.slot_table import Outcome
from pipeline.status import Status

DROPS = tuple(outcome.name.lower() for outcome in Outcome if outcome.is_drop)

_REASONS_OF = {
    "decode": ("no_slot", "decode_error", "crash"),
    "inference": ("late", "processor_error", "withheld", "paused", "poison", "shutdown"),
    "egress": ("late", "crash", "poison", "shutdown"),
}
"""What can happen in each; told from the start, as 0, so that a first one shows as a rise."""

_BY_PRODUCER = ("no_slot", "decode_error", "processor_error", "paused")


def drops_by_stage(status: Status) -> dict[tuple[str, str], int]:
    """Frames dropped, by stage and reason; their sum is that of `status.frames.dropped`."""
    worker_of = {stage.stage: stage.worker for stage in status.stages}
    drops = {(stage.stage, reason): 0 for stage in status.stages for reason in _REASONS_OF.get(stage.worker, ())}
    for link in status.links:
        for reason in DROPS:
            # Decode dies over frames that it has not handed on yet, egress over some that it was just sending.
            of_producer = reason in _BY_PRODUCER or (reason == "crash" and worker_of[link.producer] == "decode")
            key = (link.producer if of_producer else link.consumer, reason)
            drops[key] = drops.get(key, 0) + link.outcomes.get(reason, 0)
    return {key: count for key, count in drops.items() if count or key[1] in _REASONS_OF.get(worker_of[key[0]], ())}
