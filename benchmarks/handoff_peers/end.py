"""One process of a pair: opens its end of the transport for every job, runs the job's pace, reports its time stamps.

Stamps are CLOCK_MONOTONIC, which both processes share: the producer's is taken just before `send`, the consumer's when
it holds a frame that it can read.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, Literal

import msgspec
import numpy as np

from benchmarks.handoff_peers.transport import Consumer, Frame, Producer, Transport

Side = Literal["producer", "consumer"]
Pace = Literal["ping-pong", "streaming", "paced"]

FPS = 30
SOURCES = 4
"""Frames to copy from. A transport that sends from the producer's own memory holds fewer than that at any time."""


class Job(msgspec.Struct, frozen=True):
    frame: Frame
    pace: Pace
    copies: bool
    count: int
    whole: bool = False  # compare every byte; for tests, and for producers that copy


class Stamps(msgspec.Struct, frozen=True):
    """Nanoseconds by frame number, 0 for a frame that was skipped, and the CPU time of the process meanwhile."""

    at_ns: list[int]
    cpu_ns: int


def serve(side: Side, transport: Transport, core: int | None, jobs: Connection) -> None:
    """Say that the process is up, then run jobs until None comes. Each is answered thrice: opened, stamps, closed."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    jobs.send("started")
    for job in iter(jobs.recv, None):
        with _open(side, transport, job) as run:
            jobs.send("opened")
            jobs.recv()
            cpu = time.process_time_ns()
            at_ns = run()
            jobs.send(Stamps(at_ns, time.process_time_ns() - cpu))
            jobs.recv()
        jobs.send("closed")


@contextmanager
def _open(side: Side, transport: Transport, job: Job) -> Iterator[Callable[[], list[int]]]:
    """One end of the transport; what comes of it does the job and returns the stamps."""
    if side == "producer":
        with closing(transport.producer(job.frame)) as producer:
            frames = _copies(producer, job) if job.copies else itertools.repeat(None, job.count)
            yield partial(_produce, producer, frames, job, transport.acknowledgements)
    else:
        with closing(transport.consumer(job.frame)) as consumer:
            yield partial(_consume, consumer, job, transport.acknowledgements)


def _produce(producer: Producer, frames: Iterator[Any], job: Job, acknowledgements: int) -> list[int]:
    sent = [0] * job.count
    start = time.monotonic()
    for seq, frame in enumerate(frames):
        if job.pace == "paced":
            time.sleep(max(0.0, start + seq / FPS - time.monotonic()))
        sent[seq] = time.monotonic_ns()
        producer.send(seq, frame)
        if _acknowledged(job, seq):
            os.eventfd_read(acknowledgements)
    return sent


def _consume(consumer: Consumer, job: Job, acknowledgements: int) -> list[int]:
    received = [0] * job.count
    seq, last = -1, job.count - 1
    whole = _interior(job.frame) if job.whole else None
    while seq < last:
        before = seq
        seq, frame = consumer.receive()
        received[seq] = time.monotonic_ns()
        if seq <= before or not frame[0] == frame[-1] == seq & 255:
            raise ValueError(f"frame {seq} after {before} holds {frame[0]} and {frame[-1]}")
        if whole is not None and not np.array_equal(np.asarray(frame)[1:-1], whole):
            raise ValueError(f"frame {seq} is not whole")
        consumer.release()
        if _acknowledged(job, seq):
            os.eventfd_write(acknowledgements, 1)
    return received


def _acknowledged(job: Job, seq: int) -> bool:
    """Also the first of a stream: iceoryx2 discards what it has no room for until its subscriber first receives."""
    return job.pace == "ping-pong" or seq == 0


def _copies(producer: Producer, job: Job) -> Iterator[Any]:
    """Frames in memory of the producer's own, made here and now, each marked with its number when its turn comes."""
    sources = [memoryview(bytearray(job.frame.nbytes)) for _ in range(SOURCES)]
    interior = _interior(job.frame).data
    for source in sources:
        source[1:-1] = interior
    return (producer.fresh(_marked(sources[seq % SOURCES], seq)) for seq in range(job.count))


def _marked(source: memoryview, seq: int) -> memoryview:
    source[0] = source[-1] = seq & 255
    return source


def _interior(frame: Frame) -> np.ndarray:
    return np.resize(np.arange(251, dtype=np.uint8), frame.nbytes - 2)
