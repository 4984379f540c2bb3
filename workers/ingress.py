"""Ingress: a trickle subscription, a file, or a recording, to encoded bytes for decode."""

import asyncio

from pipeline.channel_address import channel_address
from pipeline.encoded_link import EncodedWriter
from pipeline.ingest import TrickleIngest
from pipeline.media.errors import MediaFileError
from pipeline.recording.format import RecordingError
from pipeline.recording.ingest import ingest_recording
from pipeline.recording.tap import input_tap
from pipeline.topology import Ingress
from pipeline.worker import Worker, WorkerRefused, run


def main(worker: Worker) -> None:
    spec = worker.boot.spec
    assert isinstance(spec, Ingress)
    assert worker.boot.encoded is not None
    link = EncodedWriter(worker.boot.encoded, worker.zmq, input_tap(worker.tap, worker.boot.epoch))
    assert spec.source is not None
    if link.drained:
        worker.ready("a predecessor has handed on everything")
    elif spec.source.trickle is not None:
        channel = channel_address(spec.source.trickle, worker.boot)
        worker.ready(channel.url)
        asyncio.run(TrickleIngest(channel, link, worker, worker.boot.source_timeout).run())
    elif spec.source.recording is not None:
        worker.ready(spec.source.recording)
        try:
            ingest_recording(spec.source.recording, link, worker, real_time=spec.source.real_time)
        except RecordingError as error:
            raise WorkerRefused(f"{worker.boot.section}.source.recording: {error}") from error
    else:
        assert spec.source.file is not None
        assert spec.source.excerpt is not None
        # Here, because it needs av and numpy: without them a live ingress is back in two thirds of the time.
        from pipeline.file_ingest import ingest_file

        worker.ready(spec.source.file)
        try:
            ingest_file(spec.source.file, spec.source.excerpt, link, worker)
        except MediaFileError as error:
            raise WorkerRefused(f"{worker.boot.section}.source.file: {error}") from error
    link.close()


if __name__ == "__main__":
    run(main)
