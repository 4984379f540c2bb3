"""Recorder: watches the output and keeps what a viewer would have seen."""

import asyncio
from pathlib import Path

from pipeline.channel_address import ChannelAddress, channel_address
from pipeline.topology import Recorder
from pipeline.trickle.errors import TrickleError
from pipeline.viewer import Viewer
from pipeline.worker import Worker, WorkerFailed, WorkerRefused, run


async def watch_until_drained(worker: Worker, viewer: Viewer, compare: ChannelAddress | None) -> None:
    await viewer.watch(compare, worker.draining_event())


def main(worker: Worker) -> None:
    spec = worker.boot.spec
    assert isinstance(spec, Recorder)
    channel = channel_address(spec.channel, worker.boot)
    compare = channel_address(spec.compare, worker.boot) if spec.compare else None
    path = Path(spec.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    viewer = Viewer(channel, path, worker.stats, worker.info)
    worker.ready(f"{channel.url} to {path}")
    try:
        asyncio.run(watch_until_drained(worker, viewer, compare))
        if spec.still is not None and not viewer.write_still(Path(spec.still)):
            worker.warning("no_still", reason="no moment was seen in both channels")
    except TrickleError as error:
        raise WorkerFailed(str(error)) from error
    except OSError as error:
        raise WorkerRefused(f"{worker.boot.section}: cannot write {error.filename}: {error.strerror}") from error


if __name__ == "__main__":
    run(main)
