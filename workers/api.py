"""Api: the REST service, on the socket that the launcher listens on."""

import asyncio
import socket
import ssl

from aiohttp import web

from pipeline.api.app import Api
from pipeline.api.health import wait_until_loaded
from pipeline.api.launcher_line import LauncherLine
from pipeline.api.stream_session import Channels
from pipeline.api.urls import UrlRules
from pipeline.boot import WorkerBoot
from pipeline.byoc import CapabilityRegistration, SecretMissing
from pipeline.topology_sections import Api as Section
from pipeline.trickle.bearer import TokenMissing, reveal
from pipeline.trickle.tls import TlsFileError, server_context
from pipeline.worker import Worker, WorkerRefused, run


async def serve_until_drained(worker: Worker) -> None:
    boot = worker.boot
    assert boot.listen_fd is not None
    section = boot.api or Section()
    line = LauncherLine(boot.control_endpoint)
    try:
        tls = tls_context(section)
        api = Api(line, section, channels(boot, section), boot.pipeline)
        registration = CapabilityRegistration(section.byoc) if section.byoc is not None else None
    except TlsFileError as error:
        raise WorkerRefused(f"api.tls.{error.role}, or api.byoc.{error.role}: {error}") from error
    except SecretMissing as problem:
        raise WorkerRefused(f"api.byoc.{problem}") from problem
    except TokenMissing as problem:
        raise WorkerRefused(f"api.tokens, relay.publish_tokens: {problem}") from problem
    runner = api.runner()
    await runner.setup()
    await web.SockSite(runner, socket.socket(fileno=boot.listen_fd), ssl_context=tls).start()
    worker.ready(boot.api_url or "")
    if not section.is_local and not section.tokens:
        worker.warning("open_to_everybody", host=section.host, key="api.tokens")
    stopping = worker.draining_event()
    if registration is None:
        await stopping.wait()
    else:
        await registered_until(registration, line, stopping)
    await runner.cleanup()
    line.close()


async def registered_until(registration: CapabilityRegistration, line: LauncherLine, stopping: asyncio.Event) -> None:
    """Known to an orchestrator from when the model is loaded until `stopping`."""
    loaded = asyncio.create_task(wait_until_loaded(line))
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait((loaded, stopped), return_when=asyncio.FIRST_COMPLETED)
    loaded.cancel()
    if not stopping.is_set():
        async with registration:
            await stopped


def tls_context(section: Section) -> ssl.SSLContext | None:
    """Raises TlsFileError."""
    tls = section.tls
    return server_context(tls.certificate, tls.key, tls.client_ca) if tls is not None else None


def channels(boot: WorkerBoot, section: Section) -> Channels:
    """Raises TokenMissing."""
    rules = UrlRules(section.allowed_urls, private=section.permits_private, has_relay=boot.relay_url is not None)
    token = reveal(boot.relay_token) if boot.relay_token is not None else None
    return Channels(rules, boot.relay_url, token)


def main(worker: Worker) -> None:
    asyncio.run(serve_until_drained(worker))


if __name__ == "__main__":
    run(main)
