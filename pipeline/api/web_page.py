"""The files of the web page: which there are, and how a browser is told that it has them already. They hold no secrets
and need no token; what the page then asks for does."""

import asyncio
import hashlib
import mimetypes
from pathlib import Path

import msgspec
from aiohttp import web

from pipeline.api.problems import ApiError

FOLDER = Path(__file__).parents[1] / "web"
INDEX = "index.html"

_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
_SHOWN = (*_TYPES, ".txt", ".md")

HEADERS = {
    # blob: is how a player hands MSE to its video element; the page has no scripts and no styles but in files.
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    # To be asked for each time, and answered with 304 while nothing has changed.
    "Cache-Control": "no-cache",
}


class _Asset(msgspec.Struct, frozen=True):
    body: bytes
    content_type: str
    etag: str


class WebPage:
    def __init__(self, folder: Path = FOLDER) -> None:
        """What is not in `folder` now is not there: no name in a request becomes a path."""
        files = (path for path in folder.rglob("*") if path.is_file() and path.suffix in _SHOWN)
        self._paths = {path.relative_to(folder).as_posix(): path for path in files}
        self._read: dict[str, _Asset] = {}

    async def index(self, request: web.Request) -> web.Response:
        return await self._answer(request, INDEX)

    async def asset(self, request: web.Request) -> web.Response:
        """Raises ApiError for a file that there is not."""
        return await self._answer(request, request.match_info["path"])

    async def _answer(self, request: web.Request, name: str) -> web.Response:
        path = self._paths.get(name)
        if path is None:
            raise ApiError(404, "the page has no such file", code="unknown")
        asset = self._read.get(name)
        if asset is None:
            asset = self._read[name] = await asyncio.to_thread(_load, path)
        headers = HEADERS | {"ETag": f'"{asset.etag}"'}
        if any(tag.value in (asset.etag, "*") for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=asset.body, headers=headers, content_type=asset.content_type, charset="utf-8")


def _load(path: Path) -> _Asset:
    body = path.read_bytes()
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "text/plain"
    return _Asset(body, kind, hashlib.sha256(body).hexdigest()[:32])
