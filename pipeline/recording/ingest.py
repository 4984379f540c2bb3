"""From a recording to the encoded link: the same bytes in the same segments, with the same gaps, as they were recorded.
`ingest` does the same with a live channel, `file_ingest` with a media file."""

import time
from collections.abc import Iterator
from pathlib import Path

import zmq

from pipeline.encoded_link import EncodedWriter
from pipeline.memory.stage_stats import Word
from pipeline.recording.format import Input, RecordingReader
from pipeline.worker import Worker

FULL_POLL_MS = 100


def ingest_recording(path: str, link: EncodedWriter, worker: Worker, *, real_time: bool) -> None:
    """Goes on at the segment that decode is in. `real_time`: each piece as long after the first as when it was
    recorded; else as fast as decode takes it. Raises RecordingError for a file that cannot be used."""
    first_ns: int | None = None
    began_ns = time.monotonic_ns()
    for record in inputs_of(Path(path)):
        if record.segment < link.cursor.segment:
            continue
        if first_ns is None:
            first_ns = record.at_ns
        due_ns = began_ns + record.at_ns - first_ns if real_time else 0
        while (link.full or time.monotonic_ns() < due_ns) and not worker.draining:
            _attend_when_heard(link, worker, due_ns)
        if worker.draining:
            break
        link.write(record.segment, record.offset, record.data, last=record.last, gap=record.gap)
        link.attend()
        worker.stats.add(Word.BYTES_IN, len(record.data))
        if record.last:
            worker.stats.add(Word.UNITS_IN)
            worker.stats.out()
    else:
        worker.farewell = "the recording is at its end"
    link.end()
    while not (link.drained or worker.abandoned):
        _attend_when_heard(link, worker)


def inputs_of(path: Path) -> Iterator[Input]:
    """What was fed, in order. Raises RecordingError."""
    return (record for record in RecordingReader(path) if isinstance(record, Input))


def _attend_when_heard(link: EncodedWriter, worker: Worker, due_ns: int = 0) -> None:
    poller = zmq.Poller()
    poller.register(link.socket, zmq.POLLIN)
    poller.register(worker.wake_fd, zmq.POLLIN)
    left_ms = (due_ns - time.monotonic_ns()) // 1_000_000 + 1
    poller.poll(min(FULL_POLL_MS, left_ms) if left_ms > 0 else FULL_POLL_MS)
    worker.clear_wake()
    link.attend()
