"""Publisher: plays a file live into a channel. A source to try a pipeline with."""

import asyncio

from pipeline.channel_address import ChannelAddress, channel_address
from pipeline.live_publisher import publish_live
from pipeline.media.errors import MediaFileError
from pipeline.topology import Publisher
from pipeline.trickle.errors import TrickleError
from pipeline.worker import Worker, WorkerFailed, WorkerRefused, run


async def publish_until_drained(worker: Worker, path: str, channel: ChannelAddress) -> None:
    await publish_live(path, channel, worker.stats, worker.draining_event())


def main(worker: Worker) -> None:
    spec = worker.boot.spec
    assert isinstance(spec, Publisher)
    channel = channel_address(spec.channel, worker.boot)
    worker.ready(f"{spec.file} to {channel.url}")
    try:
        asyncio.run(publish_until_drained(worker, spec.file, channel))
    except MediaFileError as error:
        raise WorkerRefused(f"{worker.boot.section}.file: {error}") from error
    except TrickleError as error:
        raise WorkerFailed(str(error)) from error


if __name__ == "__main__":
    run(main)
