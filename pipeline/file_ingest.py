"""From a media file to the encoded link, as fast as decode takes it. `ingest` does the same with a live channel."""

import zmq

from pipeline.encoded_link import EncodedWriter
from pipeline.media.access_unit import CLOCK_HZ
from pipeline.media.errors import MediaFileError
from pipeline.media.excerpt import Excerpt
from pipeline.media.file_source import TsFileSource
from pipeline.memory.stage_stats import Word
from pipeline.worker import Worker

FULL_POLL_MS = 100


def ingest_file(path: str, excerpt: Excerpt, link: EncodedWriter, worker: Worker) -> None:
    """Write an excerpt of a media file to `link` as MPEG-TS, never more than the link's bound ahead of decode. Goes on
    at the segment that decode is in. Raises MediaFileError for a file that cannot be used."""
    source = TsFileSource(path, start_segment=max(0, link.cursor.segment), excerpt=excerpt)
    if source.length == 0:
        raise MediaFileError(f"{path}: ends before the start that is asked for, {excerpt.start_seconds:g} s")
    worker.stats[Word.MEDIA_TICKS] = source.length or 0
    segment = offset = 0
    for chunk in source:
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
    if source.missing:
        worker.warning("source_is_cut_off", file=path, missing_s=round(source.missing / CLOCK_HZ, 1))
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
