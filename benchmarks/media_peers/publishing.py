"""Bytes into a trickle channel at the pace of a stream: our sink, as egress uses it, and a bare socket."""

import socket
import time
from collections.abc import Callable, Sequence

from benchmarks.media_peers.work import FPS
from benchmarks.trickle_peers.processes import RelayProcess
from pipeline.trickle import TrickleSink

READ_BYTES = 65536


def sink(chunks: Sequence[bytes], relay: RelayProcess) -> float:
    """CPU ms per chunk of this process, whose other thread does the sending."""
    with TrickleSink(relay.new_channel()) as target:
        target.begin_segment()
        return _paced(chunks, target.write)


def bare_socket(chunks: Sequence[bytes], relay: RelayProcess) -> float:
    """CPU ms per chunk: the floor, one POST in chunked coding, sent by the thread that has the bytes."""
    url = relay.new_channel()
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port))) as connection:
        head = (
            f"POST /{path}/0 HTTP/1.1\r\nHost: {host}\r\nContent-Type: video/MP2T\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        connection.sendall(head.encode())
        took = _paced(chunks, lambda data: connection.sendall(b"%x\r\n%b\r\n" % (len(data), data)))
        connection.sendall(b"0\r\n\r\n")
        if not connection.recv(READ_BYTES).startswith(b"HTTP/1.1 200"):
            raise RuntimeError("the relay refused what the bare socket sent")
    relay.remove_channel(url)
    return took


def _paced(chunks: Sequence[bytes], write: Callable[[bytes], object]) -> float:
    cpu, began = time.process_time(), time.monotonic()
    for number, data in enumerate(chunks):
        time.sleep(max(0.0, began + number / FPS - time.monotonic()))
        write(data)
    time.sleep(1 / FPS)  # The last one is on its way.
    return 1000 * (time.process_time() - cpu) / len(chunks)
