"""What a process of inference knows of one lane: its links, and the stream on it. The launcher's side is `lane`."""

from typing import Any

from pipeline.boot import LaneBoot
from pipeline.messages import SetPause, StreamBegin


class WorkerLane:
    """The control thread hears, the main thread takes up."""

    def __init__(self, boot: LaneBoot) -> None:
        self.number = boot.number
        self.boot = boot
        self.stream, self.epoch = boot.stream, boot.epoch
        """The stream being worked on, and its number."""
        self.params = boot.params
        """The processor's for this stream alone, as it begins; None: it has none."""
        self.weight = boot.weight
        self.pause = boot.pause
        """The processor is to be left alone while this is there."""
        self._newest: StreamBegin | None = None  # stream that was told of

    def hear(self, order: StreamBegin | SetPause) -> None:
        if isinstance(order, SetPause):
            self.pause = order.pause
        else:
            self._newest = order
            if order.epoch == self.epoch:  # They were changed before this process had its turn.
                self.params = order.params

    @property
    def newest_epoch(self) -> int:
        """The number of the stream that was told of last."""
        return self.epoch if self._newest is None else self._newest.epoch

    @property
    def newest_params(self) -> dict[str, Any] | None:
        """What that has of its own."""
        return self.params if self._newest is None else self._newest.params

    def take_up(self) -> bool:
        """Go over to the newest stream that was told of; whether there was another."""
        begun = self._newest
        if begun is None or begun.epoch == self.epoch:
            return False
        self.stream, self.epoch, self.params, self.weight = begun.stream, begun.epoch, begun.params, begun.weight
        return True
