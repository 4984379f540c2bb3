"""Publisher: plays a file live into a channel. A source to try a pipeline with."""

import asyncio

from pipeline.channel_url import channel_url
from pipeline.live_publisher import publish_live
from pipeline.media.errors import MediaFileError
from pipeline.topology import Publisher
from pipeline.worker import Worker, WorkerRefused, run


async def publish_until_drained(worker: Worker, path: str, url: str) -> None:
    await publish_live(path, url, worker.stats, worker.draining_event())


def main(worker: Worker) -> None:
    spec = worker.boot.spec
    assert isinstance(spec, Publisher)
    url = channel_url(spec.channel, worker.boot.relay_url)
    worker.ready(f"{spec.file} to {url}")
    try:
        asyncio.run(publish_until_drained(worker, spec.file, url))
    except MediaFileError as error:
        raise WorkerRefused(f"stages.{worker.boot.stage}.file: {error}") from error


if __name__ == "__main__":
    run(main)
