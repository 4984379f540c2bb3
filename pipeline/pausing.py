"""Pauses a stream and lets it go on: frames, sound and counts flow, and inference leaves the processor alone.

What is told to whom is here; what viewers see meanwhile is inference's, in `processors.frame_work`.
"""

from pipeline.keeper import Announce, Keeper
from pipeline.messages import Answer, Pause, PauseRequest, SetPause
from pipeline.topology import Inference
from pipeline.wiring import Wiring


class Pausing:
    def __init__(self, wiring: Wiring, keeper: Keeper, announce: Announce) -> None:
        self._wiring = wiring
        self._keeper = keeper
        self._announce = announce

    def answer(self, request: PauseRequest, running: str | None) -> Answer:
        """Do what is asked; what is so already is no mistake. `running` is the id of the stream on request that runs,
        empty for the stream of the topology."""
        if running is None or request.stream not in ("", running):
            return Answer(False, f"there is no stream {request.stream!r}; running: {running or 'none'}", "unknown")
        before, pause = self._wiring.pause, request.pause
        self._set(pause)
        of = {"stream": running} if running else {}
        if pause is not None and pause != before:
            self._announce("info", "launcher", "stream_paused", **of, show=pause.show)
        elif pause is None and before is not None:
            self._announce("info", "launcher", "stream_resumed", **of)
        name = running or "the stream"
        return Answer(True, f"{name} is paused" if pause is not None else f"{name} goes on")

    def end(self) -> None:
        """The stream is over: the next one is not paused."""
        if self._wiring.pause is not None:
            self._set(None)

    def _set(self, pause: Pause | None) -> None:
        self._wiring.pause = pause
        self._keeper.tell_all(Inference, SetPause(pause))
