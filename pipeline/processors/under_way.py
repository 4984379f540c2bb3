"""What a processor has begun and not ended, of all streams: the supervisor is told of the oldest, and so notices one
that hangs while the process itself does not."""

import threading
import time
from concurrent.futures import Future
from typing import Any

from pipeline.memory.stage_stats import StageStats, Word


class UnderWay:
    """`add` is for one thread; what is added ends in any."""

    def __init__(self, stats: StageStats) -> None:
        self._stats = stats
        self._since_ns: dict[Future[Any], int] = {}  # oldest first
        self._moves = threading.Lock()

    def add(self, begun: Future[Any]) -> None:
        with self._moves:
            self._since_ns[begun] = time.monotonic_ns()
            self._tell()
        begun.add_done_callback(self._ended)

    def _ended(self, begun: Future[Any]) -> None:
        with self._moves:
            del self._since_ns[begun]
            self._tell()

    def _tell(self) -> None:
        self._stats[Word.UNDER_WAY_SINCE_NS] = next(iter(self._since_ns.values()), 0)
