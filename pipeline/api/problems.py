"""What a request gets that is not done: always JSON, always one line that says what, where and what is allowed."""

import traceback
import uuid
from typing import Literal

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from pipeline import log
from pipeline.api.redact import redacted
from pipeline.control import LauncherSilent

RETRY_SECONDS = "1"

Code = Literal["", "exists", "full", "loading", "invalid", "unknown", "busy", "silent"]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was not done. `message` is `error` again, for clients of pytrickle's server; `path` is the field,
    `allowed` what it may be; `code` says why for programs; `id` is in the log too."""

    status: Literal["error"]
    error: str
    message: str
    path: str = ""
    allowed: str = ""
    code: Code = ""
    id: str = ""


class ApiError(Exception):
    """Raised by whoever finds that a request cannot be done; becomes the reply."""

    def __init__(
        self,
        status: int,
        error: str,
        *,
        path: str = "",
        allowed: str = "",
        code: Code = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.error = redacted(error)
        self.path = path
        self.allowed = allowed
        self.code: Code = code
        self.headers = headers or {}

    @property
    def text(self) -> str:
        """In one line, for where no reply can be given."""
        where = f"{self.path}: " if self.path else ""
        return f"{where}{self.error}" + (f"; allowed: {self.allowed}" if self.allowed else "")

    def response(self) -> web.Response:
        text = self.error if not self.path else f"{self.path}: {self.error}"
        problem = Problem("error", text, text, self.path, self.allowed, self.code)
        return _response(self.status, problem, self.headers)


def not_now(error: str, code: Code) -> ApiError:
    """It would be done at another time."""
    return ApiError(503, error, code=code, headers={"Retry-After": RETRY_SECONDS})


@web.middleware
async def problems_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around everything that answers requests."""
    try:
        return await handler(request)
    except ApiError as error:
        return error.response()
    except LauncherSilent as error:
        return not_now(str(error), "silent").response()
    except web.HTTPException as error:
        return _of_aiohttp(request, error).response()
    except Exception as error:  # noqa: BLE001 - the outermost of a request: whoever asked learns nothing of our insides
        number = uuid.uuid4().hex[:12]
        trace = redacted("".join(traceback.format_exception(error)))
        log.error("api.request_failed", id=number, method=request.method, path=request.path, trace=trace)
        text = f"this is a mistake of the server's, number {number} in its log"
        return _response(500, Problem("error", text, text, id=number), {})


def _of_aiohttp(request: web.Request, error: web.HTTPException) -> ApiError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return ApiError(405, f"{request.method} is not for this path", allowed=allowed, headers={"Allow": allowed})
    if isinstance(error, web.HTTPNotFound):
        return ApiError(404, "no such path", allowed="the paths in /openapi.json")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return ApiError(413, "the body is too long", allowed="api.max_request_bytes")
    return ApiError(error.status, error.reason)


def _response(status: int, problem: Problem, headers: dict[str, str]) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(problem), status=status, headers=headers, content_type="application/json"
    )
