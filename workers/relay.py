"""Relay: the embedded trickle server, on the sockets that the launcher listens on."""

import asyncio
import resource
import socket
import ssl

from pipeline.boot import WorkerBoot
from pipeline.trickle.bearer import TokenMissing
from pipeline.trickle.server import serve_on
from pipeline.trickle.tls import TlsFileError, server_context
from pipeline.worker import Worker, WorkerRefused, run

SPARE_DESCRIPTORS = 512
"""Besides one for each client: what the process has open anyway, and clients that are being turned away."""


async def serve_until_drained(worker: Worker) -> None:
    boot = worker.boot
    assert boot.listen_fd is not None
    assert boot.relay is not None
    listeners = [socket.socket(fileno=fd) for fd in (boot.listen_fd, *boot.media_fds)]
    try:
        server = await serve_on(listeners, boot.relay, tls=tls_listener(boot))
    except TlsFileError as error:
        raise WorkerRefused(f"relay.tls.{error.role}: {error}") from error
    except TokenMissing as problem:
        raise WorkerRefused(f"relay.publish_tokens, relay.subscribe_tokens: {problem}") from problem
    also = ", ".join(map(str, server.ports[1:]))
    worker.ready((boot.relay_url or "") + (f" and ports {also}" if also else ""))
    await worker.draining_event().wait()
    await server.close()


def tls_listener(boot: WorkerBoot) -> tuple[socket.socket, ssl.SSLContext] | None:
    """The socket for clients that come over TLS, if there is one. Raises TlsFileError."""
    tls = boot.relay.tls if boot.relay is not None else None
    if tls is None or boot.tls_fd is None:
        return None
    return socket.socket(fileno=boot.tls_fd), server_context(tls.certificate, tls.key, tls.client_ca)


def raise_descriptor_limit(worker: Worker, connections: int) -> None:
    """Let there be as many descriptors as the limits on connections may take, or as the system allows."""
    needed = connections + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        worker.warning("few_descriptors", key="relay.limits.max_connections", wanted=needed, allowed=hard)


def main(worker: Worker) -> None:
    assert worker.boot.relay is not None
    raise_descriptor_limit(worker, worker.boot.relay.limits.max_connections)
    asyncio.run(serve_until_drained(worker))


if __name__ == "__main__":
    run(main)
