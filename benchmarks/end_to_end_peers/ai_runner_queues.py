"""How ai-runner (github.com/livepeer/ai-runner, 0.14.1) moves frames, with nothing else of it: one process decodes and
encodes, another runs the pipeline, and torch.multiprocessing queues with room for one lie between them:
`python -m benchmarks.end_to_end_peers.ai_runner_queues INPUT_URL OUTPUT_URL WIDTH HEIGHT FPS FD`.

Rebuilt after its process/process.py, streamer/streamer.py, streamer/protocol/trickle.py and pipelines/noop.py: which
queue is bounded, who waits in which thread, what is dropped where there is no room, and that sound never crosses. Its
media code is pytrickle's, which was taken from it, so it runs in pytrickle's interpreter. Left out are parameters, logs
and the watching over the process. Its decoder takes no more than 24 pictures a second; here it takes all.
"""

import asyncio
import os
import queue
import sys
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.multiprocessing as mp
from pytrickle import AudioFrame, VideoFrame
from pytrickle.cache import LastValueCache
from pytrickle.frames import AudioOutput, VideoOutput
from pytrickle.media import run_publish, run_subscribe

from pipeline.parent_death import die_with

READY = "ready"
GET_S = 0.1


class Noop:
    """Its pass-through pipeline."""

    def __init__(self) -> None:
        self._frames: asyncio.Queue[VideoOutput] = asyncio.Queue()

    async def put_video_frame(self, frame: VideoFrame) -> None:
        await self._frames.put(VideoOutput(frame))

    async def get_processed_video_frame(self) -> VideoOutput:
        out = await self._frames.get()
        return out.replace_tensor(out.tensor.clone())


class PipelineProcess:
    """The second process, and the queues to it and back, each with room for one."""

    def __init__(self) -> None:
        context = mp.get_context("spawn")
        self._inputs, self._outputs = context.Queue(maxsize=1), context.Queue(maxsize=1)
        self._ready = context.Event()
        self._process = context.Process(target=_run, args=(self._inputs, self._outputs, self._ready, os.getpid()))
        self._process.start()

    def wait_until_ready(self) -> None:
        self._ready.wait()

    def send_input(self, frame: VideoFrame) -> None:
        _put_if_room(self._inputs, frame)

    async def recv_output(self) -> VideoOutput:
        return await _get(self._outputs)


def _run(inputs: Any, outputs: Any, ready: Any, parent: int) -> None:
    die_with(parent, "pipeline")
    torch.set_num_threads(1)
    asyncio.run(_run_loops(inputs, outputs, ready))


async def _run_loops(inputs: Any, outputs: Any, ready: Any) -> None:
    pipeline = Noop()

    async def input_loop() -> None:
        while True:
            await pipeline.put_video_frame(await _get(inputs))

    async def output_loop() -> None:
        while True:
            _put_if_room(outputs, await pipeline.get_processed_video_frame())

    ready.set()
    await asyncio.gather(input_loop(), output_loop())


async def _get(frames: Any) -> Any:
    while True:
        try:
            return await asyncio.to_thread(frames.get, timeout=GET_S)
        except queue.Empty:
            continue


def _put_if_room(frames: Any, frame: Any) -> None:
    try:
        frames.put_nowait(frame)
    except queue.Full:
        pass


async def stream(process: PipelineProcess, source: str, target: str, width: int, height: int, fps: int) -> None:
    """Until the source ends. The queues of this side have no bound."""
    decoded: queue.Queue[Any] = queue.Queue()
    publishable: queue.Queue[Any] = queue.Queue()
    cache = LastValueCache()

    async def ingress_loop() -> None:
        while (frame := await asyncio.to_thread(decoded.get)) is not None:
            if isinstance(frame, AudioFrame):
                publishable.put(AudioOutput([frame]))
            else:
                process.send_input(frame)

    async def egress_loop() -> None:
        while True:
            await asyncio.to_thread(publishable.put, await process.recv_output())

    subscribing = asyncio.create_task(run_subscribe(source, decoded.put, cache.put, None, width, height, fps))
    publishing = asyncio.create_task(run_publish(target, publishable.get, cache.get))
    egress = asyncio.create_task(egress_loop())
    await asyncio.gather(subscribing, ingress_loop())
    egress.cancel()
    publishable.put(None)
    await publishing


def main(source: str, target: str, width: str, height: str, fps: str, fd: str) -> None:
    runner = Connection(int(fd))
    torch.set_num_threads(1)
    process = PipelineProcess()
    process.wait_until_ready()
    runner.send(READY)
    asyncio.run(stream(process, source, target, int(width), int(height), int(fps)))


if __name__ == "__main__":
    main(*sys.argv[1:])
