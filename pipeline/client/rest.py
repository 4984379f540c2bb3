"""The HTTP service of a node as seen from outside: one request, one JSON answer, or an error that says what to do."""

import json
import ssl
from typing import Any

import aiohttp

from pipeline.client.errors import ServerUnreachable, StreamRefused, TokenRefused, UnexpectedAnswer
from pipeline.http_failures import UNTRUSTED, why_unreachable, why_untrusted

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""More than that is no answer of this service."""

_DENIED_STATUSES = (401, 403)
_SHOWN_BYTES = 80


class Rest:
    """Requests below `base_url`, over one kept connection between `open` and `close`, else over one each."""

    def __init__(self, base_url: str, token: str | None, ssl_context: ssl.SSLContext | None) -> None:
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._ssl = ssl_context
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        if self._session is None:
            self._session = self._new_session()

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(
        self, method: str, path: str, body: object = None, *, timeout_s: float, accept: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """The JSON object that is answered with a status below 300, or one of `accept`.

        Raises StreamRefused or TokenRefused for another status, ServerUnreachable when there is no answer within
        `timeout_s`, UnexpectedAnswer when it is not of this service.
        """
        if self._session is not None:
            return await self._call(self._session, method, path, body, timeout_s, accept)
        async with self._new_session() as session:
            return await self._call(session, method, path, body, timeout_s, accept)

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(headers=self._headers)

    async def _call(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        body: object,
        timeout_s: float,
        accept: tuple[int, ...],
    ) -> dict[str, Any]:
        request = f"{method} {self._base_url}{path}"
        try:
            # Not redirected: the token is for this server alone.
            async with session.request(
                method,
                self._base_url + path,
                data=None if body is None else json.dumps(body).encode(),
                headers={"Content-Type": "application/json"} if body is not None else None,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                allow_redirects=False,
                ssl=self._ssl or True,
            ) as response:
                text = await _read(response, request)
                status, reason = response.status, response.reason or ""
        except TimeoutError as error:
            raise self._unreachable(f"does not answer {method} {path} within {timeout_s:g} s") from error
        except UNTRUSTED as error:
            raise ServerUnreachable(
                f"{self._base_url} cannot be trusted ({why_untrusted(error)}); give the certificate that signs it, "
                "ca=FILE, or the name that stands in it as the host"
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise self._unreachable(f"cannot be reached ({why_unreachable(error)})") from error
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
            raise UnexpectedAnswer(f"{request}: {error}; is another program on this port?") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise self._unreachable(f"broke the connection ({error})") from error
        answer = _object(text)
        if status < 300 or status in accept:
            if answer is None:
                shown = text[:_SHOWN_BYTES].decode(errors="replace").strip()
                raise UnexpectedAnswer(
                    f"{request}: status {status} with no JSON object but {shown!r}; is another program on this port?"
                )
            return answer
        raise _refusal(request, status, reason, text, answer)

    def _unreachable(self, what: str) -> ServerUnreachable:
        return ServerUnreachable(
            f"{self._base_url} {what}; is the server running? Check with: curl {self._base_url}/health"
        )


async def _read(response: aiohttp.ClientResponse, request: str) -> bytes:
    text = bytearray()
    async for piece in response.content.iter_any():
        text += piece
        if len(text) > MAX_ANSWER_BYTES:
            raise UnexpectedAnswer(f"{request}: an answer of more than {MAX_ANSWER_BYTES} bytes")
    return bytes(text)


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        answer = json.loads(text)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _refusal(request: str, status: int, reason: str, text: bytes, answer: dict[str, Any] | None) -> StreamRefused:
    if answer is None:
        answer = {"error": text[:_SHOWN_BYTES].decode(errors="replace").strip() or reason}
    problem = str(answer.get("error") or answer.get("message") or reason)
    kind = TokenRefused if status in _DENIED_STATUSES else StreamRefused
    if kind is TokenRefused and "token" not in problem:
        problem += "; give a token that this server takes"
    path, code = (str(answer.get(key) or "") for key in ("path", "code"))
    return kind(request, status, problem, path, _words(answer.get("allowed")), code)


def _words(allowed: object) -> str:
    return ", ".join(map(str, allowed)) if isinstance(allowed, list) else str(allowed or "")
