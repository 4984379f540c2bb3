"""Pauses streams and lets them go on: frames, sound and counts flow, and inference leaves the processor alone.

What is told to whom is here; what viewers see meanwhile is inference's, in `processors.frame_work`.
"""

from collections.abc import Sequence

from pipeline.boot import Pause
from pipeline.keeper import Announce, Keeper
from pipeline.lane import Lane
from pipeline.messages import Answer


def set_pause(keeper: Keeper, announce: Announce, lanes: Sequence[Lane], pause: Pause | None) -> Answer:
    """Of the streams on these lanes; None: they go on. What is so already is no mistake."""
    if not lanes:
        return Answer(False, "there is no stream; none runs", "unknown")
    for lane in lanes:
        before, lane.pause = lane.pause, pause
        keeper.tell(keeper.stages[lane.inference], lane.set_pause)
        of = {"stream": lane.stream.stream} if lane.stream is not None else {}
        if pause is not None and pause != before:
            announce("info", "launcher", "stream_paused", **of, show=pause.show)
        elif pause is None and before is not None:
            announce("info", "launcher", "stream_resumed", **of)
    names = ", ".join(lane.stream.stream for lane in lanes if lane.stream is not None) or "the stream"
    return Answer(True, f"{names}: {'paused' if pause is not None else 'not paused'}")
