"""Ingress: a trickle subscription, or a file, to encoded bytes for decode."""

import asyncio

from pipeline.channel_url import channel_url
from pipeline.encoded_link import EncodedWriter
from pipeline.ingest import TrickleIngest, ingest_file
from pipeline.media.errors import MediaFileError
from pipeline.topology import Ingress
from pipeline.worker import Worker, WorkerRefused, run


async def ingest_channel(worker: Worker, url: str, link: EncodedWriter) -> None:
    await TrickleIngest(url, link, worker.stats, worker.info, worker.draining_event()).run()


def main(worker: Worker) -> None:
    spec = worker.boot.spec
    assert isinstance(spec, Ingress)
    assert worker.boot.encoded is not None
    link = EncodedWriter(worker.boot.encoded, worker.zmq)
    if spec.source.trickle is not None:
        url = channel_url(spec.source.trickle, worker.boot.relay_url)
        worker.ready(url)
        asyncio.run(ingest_channel(worker, url, link))
    else:
        assert spec.source.file is not None
        worker.ready(spec.source.file)
        try:
            ingest_file(spec.source.file, link, worker.stats, lambda: worker.draining, worker.wake_fd)
        except MediaFileError as error:
            raise WorkerRefused(f"stages.{worker.boot.stage}.source.file: {error}") from error
    link.close()


if __name__ == "__main__":
    run(main)
