"""pytrickle's two halves, `decode_av` and `encode_av`, on the same work, as its StreamProcessor uses them: the first in
a thread, the second fed from a queue, its segments read from pipes. Runs in pytrickle's interpreter:
`python -m benchmarks.media_peers.pytrickle_av SOURCE WIDTH HEIGHT FPS WARM_UP`

Prints CPU ms per picture of each half as JSON. It decodes once for nothing, and once for the encoder: the difference is
the encoder's. torch has one thread, as ours has: with more the idle ones spin, and the CPU of that goes to either half.
"""

import json
import logging
import queue
import sys
import threading
import time
from typing import Any

import torch
from pytrickle.decoder import decode_av
from pytrickle.encoder import encode_av
from pytrickle.frames import AudioFrame, AudioOutput, VideoFrame, VideoOutput

AHEAD = 4
PIPE_BYTES = 32 * 1024

logging.getLogger("pytrickle").setLevel(logging.ERROR)


class Count:
    """Pictures that passed, and the CPU time of the process since the warm-up was over."""

    def __init__(self, warm_up: int) -> None:
        self._warm_up = warm_up
        self._pictures = 0
        self._began = 0.0

    def picture(self) -> None:
        self._pictures += 1
        if self._pictures == self._warm_up:
            self._began = time.process_time()

    def per_picture_ms(self) -> float:
        return 1000 * (time.process_time() - self._began) / (self._pictures - self._warm_up)


def decode_only(source: str, width: int, height: int, fps: int, count: Count) -> None:
    def take(frame: Any) -> None:
        if isinstance(frame, VideoFrame):
            count.picture()

    decode_av(source, take, lambda _: None, width, height, fps)


def decode_and_encode(source: str, width: int, height: int, fps: int, count: Count) -> None:
    frames = queue.Queue[Any](AHEAD)
    metadata: list[dict[str, Any]] = []

    def take(frame: Any) -> None:
        if isinstance(frame, VideoFrame):
            frames.put(VideoOutput(frame, "bench"))
        elif isinstance(frame, AudioFrame):
            frames.put(AudioOutput([frame], "bench"))

    def decode() -> None:
        decode_av(source, take, metadata.append, width, height, fps)
        frames.put(None)

    def give() -> Any:
        frame = frames.get()
        if isinstance(frame, VideoOutput):
            count.picture()
        return frame

    def read_segment(reader: Any, _writer: Any, _name: str) -> None:
        threading.Thread(target=_drain, args=(reader,)).start()

    thread = threading.Thread(target=decode)
    thread.start()
    encode_av(give, read_segment, lambda: metadata[0] if metadata else None, audio_codec="libopus")
    thread.join()


def _drain(reader: Any) -> None:
    while reader.read(PIPE_BYTES):
        pass
    reader.close()


def main(source: str, *numbers: str) -> None:
    width, height, fps, warm_up = map(int, numbers)
    torch.set_num_threads(1)
    decoding, both = Count(warm_up), Count(warm_up)
    decode_only(source, width, height, fps, decoding)
    decode_ms = decoding.per_picture_ms()
    decode_and_encode(source, width, height, fps, both)
    print(json.dumps({"decode": decode_ms, "encode": both.per_picture_ms() - decode_ms}))


if __name__ == "__main__":
    main(*sys.argv[1:])
