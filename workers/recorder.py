"""Recorder: watches the output and keeps what a viewer would have seen."""

import asyncio
from pathlib import Path

from pipeline.channel_url import channel_url
from pipeline.topology import Recorder
from pipeline.viewer import Viewer
from pipeline.worker import Worker, WorkerRefused, run


async def watch_until_drained(worker: Worker, viewer: Viewer, compare: str | None) -> None:
    await viewer.watch(compare, worker.draining_event())


def main(worker: Worker) -> None:
    spec = worker.boot.spec
    assert isinstance(spec, Recorder)
    relay = worker.boot.relay_url
    url = channel_url(spec.channel, relay)
    path = Path(spec.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    viewer = Viewer(url, path, worker.stats, worker.info)
    worker.ready(f"{url} to {path}")
    try:
        asyncio.run(watch_until_drained(worker, viewer, channel_url(spec.compare, relay) if spec.compare else None))
        if spec.still is not None and not viewer.write_still(Path(spec.still)):
            worker.warning("no_still", reason="no moment was seen in both channels")
    except OSError as error:
        raise WorkerRefused(f"stages.{worker.boot.stage}: cannot write {error.filename}: {error.strerror}") from error


if __name__ == "__main__":
    run(main)
