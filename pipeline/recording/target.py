"""What is being recorded, if anything: which of the stages are to tell whoever records what they see."""

from typing import NamedTuple


class Target(NamedTuple):
    recording: str = ""
    """The recorder's id; empty: nobody records."""
    stream: str = ""
    """The name of the one that is meant; empty: any, as none has begun."""
    epoch: int | None = None
    """Its number, once the recording has begun."""

    def is_of(self, stream: str, epoch: int) -> bool:
        """Whether this stream is recorded, or may come to be."""
        if self.epoch is not None:
            return epoch == self.epoch
        return self.stream in ("", stream)
