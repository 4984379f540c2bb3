"""Makes a node known to a Livepeer orchestrator as a capability of its own (BYOC, "bring your own compute"), so that
the orchestrator sends it streams. It carries no stream and takes no request.

The rules are those of go-livepeer's byoc/job_orchestrator.go and core/external_capabilities.go.
"""

import asyncio
import contextlib
import os
import re
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import msgspec

from pipeline import log
from pipeline.http_failures import UNTRUSTED, why_unreachable, why_untrusted
from pipeline.topology_byoc import Byoc
from pipeline.trickle.bearer import AUTHORIZATION
from pipeline.trickle.tls import TlsFileError, client_context

TIMEOUT_S = 5.0
"""For one request."""

FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
"""Between two attempts while the orchestrator cannot be asked, or is busy."""

_CERTIFICATE_HINT = (
    "give it as ca (go-livepeer's own is cert.pem in its data folder, and good for the host name of its -serviceAddr, "
    "not for an IP address)"
)
_MAX_SHOWN = 200
# What a header may hold, and is not trimmed of (RFC 9110, 5.5).
_SECRET = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
# Statuses after which the same request may be taken later; of 400 to 499 all others are about the request itself.
_MAY_PASS = (408, 425, 429)


class RegistrationRefused(Exception):
    """The orchestrator will not have the capability, whenever it is asked. The text names the setting to look at."""


class SecretMissing(Exception):
    """A secret, or the environment variable that it is to come from, is not one. The text names the setting."""


class CapabilityRegistration:
    """Registers while the `async with` block runs, in the background, and takes the registration back at its end.

    An orchestrator that cannot be asked is asked again for as long as it takes. One that was restarted has forgotten
    the node, and nothing tells; it is not told anew by and by, because that would set its count of running streams to
    zero (external_capabilities.go, RegisterCapability).
    """

    def __init__(self, settings: Byoc) -> None:
        """Raises SecretMissing, and TlsFileError for `ca`."""
        self.registered = False
        self.problem = ""
        """Why it is not registered, in one line; empty before the first answer and once it is."""
        self._settings = settings
        self._secret = _reveal("orch_secret", settings.orch_secret, _is_header, "printable ASCII, no spaces around")
        self._token = settings.worker_token and _reveal(
            "worker_token", settings.worker_token, _is_token, "letters, digits, - . _ ~ + / and = at its end"
        )
        self._trust()
        self._may_be_registered = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._register_in_background())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        if self._may_be_registered:
            await self.unregister()

    async def register(self) -> None:
        """Ask until the orchestrator has taken the capability. Raises RegistrationRefused."""
        delay = FIRST_DELAY_S
        while problem := await self._ask_to_register():
            if problem != self.problem:
                self.problem = problem
                log.warning("byoc.not_registered", orchestrator=self._settings.orchestrator_url, problem=problem)
            await asyncio.sleep(delay)
            delay = min(2 * delay, MAX_DELAY_S)
        self.problem = ""
        self.registered = True
        log.info(
            "byoc.registered",
            orchestrator=self._settings.orchestrator_url,
            capability=self._settings.capability_name,
            url=self._settings.capability_url,
        )

    async def unregister(self) -> None:
        """Take the registration back, as far as the orchestrator can be asked: what fails is only logged."""
        self.registered = self._may_be_registered = False
        name = self._settings.capability_name
        try:
            # The body is the bare name (job_orchestrator.go, UnregisterCapability).
            problem = await self._post("unregister", name.encode(), "text/plain")
        except RegistrationRefused as error:
            problem = str(error)
        if problem:
            log.warning("byoc.not_unregistered", orchestrator=self._settings.orchestrator_url, problem=problem)
        else:
            log.info("byoc.unregistered", orchestrator=self._settings.orchestrator_url, capability=name)

    async def _register_in_background(self) -> None:
        try:
            await self.register()
        except RegistrationRefused as refused:
            self.problem = str(refused)
            log.error("byoc.refused", orchestrator=self._settings.orchestrator_url, problem=refused)

    async def _ask_to_register(self) -> str:
        self._may_be_registered = True
        body = msgspec.json.encode(self._capability())
        try:
            return await self._post("register", body, "application/json")
        except RegistrationRefused:
            self._may_be_registered = False
            raise

    def _capability(self) -> dict[str, Any]:
        """The fields of Go's ExternalCapability. It puts a slash and the path behind the URL."""
        settings = self._settings
        capability = {
            "name": settings.capability_name,
            "description": settings.description,
            "url": settings.capability_url.rstrip("/"),
            "capacity": settings.capacity,
            "price_per_unit": settings.price_per_unit,
            "price_scaling": settings.price_scaling,
            "currency": settings.currency,
        }
        return capability if self._token is None else {**capability, "token": self._token}

    async def _post(self, action: str, body: bytes, content_type: str) -> str:
        """Empty when it is done; else why not, and it may be another time. Raises RegistrationRefused when it never
        will be."""
        url = f"{self._settings.orchestrator_url.rstrip('/')}/capability/{action}"
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
                # Not redirected: the secret is for this server alone.
                session.post(
                    url,
                    data=body,
                    headers={"Authorization": self._secret, "Content-Type": content_type},
                    ssl=self._trust(),
                    allow_redirects=False,
                ) as response,
            ):
                text = (await response.content.read(_MAX_SHOWN)).decode(errors="replace").strip()
                return self._verdict(response, text)
        except TimeoutError:
            return f"no answer within {TIMEOUT_S:g} s"
        except UNTRUSTED as error:
            return f"its certificate is not trusted: {why_untrusted(error)}; {_CERTIFICATE_HINT}"
        except aiohttp.ClientConnectorError as error:
            self._may_be_registered = self.registered
            return f"cannot be reached: {why_unreachable(error)}"
        except aiohttp.ServerDisconnectedError:
            # Go's handler panics on a currency that its price feed has not (external_capabilities.go).
            hint = "" if self._settings.currency.lower() in ("", "wei", "eth") else f"; {self._no_feed()}"
            return f"it broke the connection{hint}"
        except aiohttp.ClientError as error:
            return f"{type(error).__name__}: {error}"
        except TlsFileError as error:
            return f"{error.role}: {error}"

    def _verdict(self, response: aiohttp.ClientResponse, text: str) -> str:
        status = response.status
        if status == 200:
            return ""
        for secret in (self._secret, self._token):
            text = text.replace(secret, "(hidden)") if secret else text
        said = f"status {status} {text or response.reason or ''}".rstrip()
        if status >= 500 or status in _MAY_PASS:
            return said
        if status == 400 and "invalid authorization" in text:
            raise RegistrationRefused(f"orch_secret: {said}; needed is what the orchestrator has as -orchSecret")
        if status in (401, 403):
            raise RegistrationRefused(f"orch_secret: {said}")
        if status < 400:
            where = response.headers.get("Location", "another place")
            raise RegistrationRefused(
                f"orchestrator_url: {said}; it leads to {where}; give the URL that answers itself"
            )
        if status in (404, 405):
            raise RegistrationRefused(f"orchestrator_url: {said}; needed is an orchestrator that takes capabilities")
        raise RegistrationRefused(said)

    def _no_feed(self) -> str:
        return f"as it does for a currency without a price feed: currency is {self._settings.currency}, try wei or eth"

    def _trust(self) -> ssl.SSLContext | bool:
        """Read anew for each request: go-livepeer makes a new certificate at each start (server/cert.go)."""
        https = urlsplit(self._settings.orchestrator_url).scheme == "https"
        return client_context(self._settings.ca, None, None) if https else True


def _reveal(key: str, text: str, accepts: Callable[[str], object], allowed: str) -> str:
    """The secret itself, where ${NAME} stands for an environment variable. Raises SecretMissing, which does not show
    it."""
    named = _VARIABLE.fullmatch(text)
    secret = os.environ.get(named[1], "") if named else text
    if accepts(secret):
        return secret
    where = f"environment variable {named[1]}" if named else "its value"
    state = "is not set" if named and not secret else "cannot be sent as one"
    raise SecretMissing(f"{key}: {where} {state}; allowed: {allowed}")


def _is_header(text: str) -> object:
    return _SECRET.fullmatch(text)


def _is_token(text: str) -> object:
    return AUTHORIZATION.fullmatch(f"bearer {text}")
