"""From a media file to the encoded link, as fast as decode takes it. `ingest` does the same with a live channel."""

import zmq

from pipeline.encoded_link import EncodedWriter
from pipeline.media.file_source import TsFileSource
from pipeline.memory.stage_stats import Word
from pipeline.worker import Worker

FULL_POLL_MS = 100


def ingest_file(path: str, link: EncodedWriter, worker: Worker) -> None:
    """Write a media file to `link` as MPEG-TS, never more than the link's bound ahead of decode. Goes on at the segment
    that decode is in. Raises MediaFileError for a file that cannot be used."""
    segment = offset = 0
    for chunk in TsFileSource(path, start_segment=max(0, link.cursor.segment)):
        while link.full and not worker.draining:
            _attend_when_heard(link, worker)
        if worker.draining:
            break
        if chunk.segment_index != segment:
            segment, offset = chunk.segment_index, 0
        link.write(segment, offset, chunk.data, last=chunk.last)
        link.attend()
        offset += len(chunk.data)
        worker.stats.add(Word.BYTES_IN, len(chunk.data))
        if chunk.last:
            worker.stats.add(Word.UNITS_IN)
            worker.stats.out()
    link.end()
    while not (link.drained or worker.abandoned):
        _attend_when_heard(link, worker)


def _attend_when_heard(link: EncodedWriter, worker: Worker) -> None:
    poller = zmq.Poller()
    poller.register(link.socket, zmq.POLLIN)
    poller.register(worker.wake_fd, zmq.POLLIN)
    poller.poll(FULL_POLL_MS)
    worker.clear_wake()
    link.attend()
