"""One thing that may be asked: where, what is read and answered, and which refusals are to be expected."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

ALWAYS = (401, 429)
"""Refusals that may meet any request."""

WITH_BODY = (400, 403, 408, 413, 415)
"""And those that may meet a POST."""

_PATTERN = re.compile(r":[^{}]*\}")
"""What a place in a path may hold, as aiohttp takes it: {name:pattern}."""


class Route(msgspec.Struct, frozen=True):
    """`statuses` are those of the answer, `refusals` what else is to be expected. `is_open`: no token is needed."""

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    summary: str
    answer: Any = None
    body: type[msgspec.Struct] | None = None
    statuses: tuple[int, ...] = (200,)
    refusals: tuple[int, ...] = ()
    is_open: bool = False
    content_type: str = "application/json"

    @property
    def template(self) -> str:
        """The path as people read it, without what its places may hold."""
        return _PATTERN.sub("}", self.path)

    def also(self, path: str) -> "Route":
        """The same under another path."""
        return msgspec.structs.replace(self, path=path, summary=f"The same as {self.path}")

    @property
    def problems(self) -> list[int]:
        """Without those that are answers."""
        found = {*ALWAYS, *self.refusals, *(WITH_BODY if self.method == "POST" else ())}
        return sorted(found - set(self.statuses) - ({401} if self.is_open else set()))
