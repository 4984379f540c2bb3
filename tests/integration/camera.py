"""A publisher as a camera is one: somebody else's, in no process of the pipeline's, and gone when it likes."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Self

from pipeline.channel_address import ChannelAddress
from pipeline.live_publisher import publish_live
from pipeline.memory.slab import create_slab
from pipeline.memory.stage_stats import STATS_BYTES, StageStats

CLOSE_S = 10.0


class Camera:
    """Plays `file` live into the channel `url`, which `token` opens, while the `with` block runs, at most to its end;
    then the channel is ended too."""

    def __init__(self, file: Path, url: str, token: str | None = None) -> None:
        self._file = file
        self._channel = ChannelAddress(url, token)
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._fd = create_slab("camera", STATS_BYTES)
        self._stats = StageStats(self._fd)
        self._thread = threading.Thread(target=self._run, name="camera")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(CLOSE_S)
        assert not self._thread.is_alive()
        self._loop.close()
        self._stats.close()
        os.close(self._fd)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(publish_live(str(self._file), self._channel, self._stats, self._stopping))
