"""The client of a node: its HTTP service for what a stream is to do, its channels for what goes in and comes out."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import aclosing
from os import PathLike, fspath
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

from pipeline.client.capture import captured
from pipeline.client.channel import Channel
from pipeline.client.errors import ClientError, ServerUnreachable
from pipeline.client.json_lines import json_lines
from pipeline.client.publishing import Published, publish_file, publish_frames
from pipeline.client.receiving import ReceivedFrame, received_frames
from pipeline.client.rest import Rest
from pipeline.trickle.bearer import AUTHORIZATION, reveal
from pipeline.trickle.tls import client_context

MEDIA_PORTS = (5678, 5679)
"""Of the input, and of the output, if a client is not told other ones."""

TIMEOUT_S = 10.0
START_TIMEOUT_S = 150.0
"""A stream may have to wait for the model to be loaded."""

PATIENCE_S = 30.0
"""How long a channel that is not there is waited for."""

LOOK_S = 0.2
"""Between two looks at a node that is not ready."""

DEFAULT_FPS = 30.0
DEFAULT_BITRATE = 2_000_000

_NEWEST, _FROM_THE_START = -2, 0


class ComfyStreamTrickleClient:
    """For one stream of one node at a time.

    With `async with` it keeps its connection; without it every call makes one of its own. The URLs are attributes: set
    them before `start_stream` to use channels elsewhere. Nothing is started or stopped by entering or leaving.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 9876,
        *,
        media_ports: tuple[int, int] = MEDIA_PORTS,
        token: str | None = None,
        media_token: str | None = None,
        tls: bool = False,
        ca: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        """`media_ports` are those of the input and output channels. `token` opens the service, `media_token` the
        channels; each is a bearer token, or ${NAME} for an environment variable. `tls`, `ca` (a PEM file: whom to trust
        in the place of the system's authorities) or `ssl_context` make the service's URL an https one; they hold for
        channels whose URL is https too.

        Raises TlsFileError, TokenMissing, and ValueError for a token that is none.
        """
        self.host = host
        self.port = port
        place = f"[{host}]" if ":" in host else host
        self._ssl_context = ssl_context or (client_context(ca, None, None) if tls or ca else None)
        self.base_url = f"{'https' if self._ssl_context else 'http'}://{place}:{port}"
        self.subscribe_url = f"http://{place}:{media_ports[0]}/input"
        """The channel that the node reads, and that the `publish_...` methods write."""
        self.publish_url = f"http://{place}:{media_ports[1]}/output"
        """The channel that the node writes, and that `frames` reads."""
        self.control_url: str | None = None
        """A channel from which the node takes new parameters, if it is to have one."""
        self.events_url: str | None = None
        """The channel that `events` reads; None: the stream has none."""
        self.data_url: str | None = None
        """The channel that `data` reads; None: the stream has none."""
        self.stream_id: str | None = None
        """The id of the stream that was started last, where it has one."""
        self._media_token = _token("media_token", media_token)
        self._timeout_s = timeout_s
        self._start_timeout_s = start_timeout_s
        self._rest = Rest(self.base_url, _token("token", token), self._ssl_context)

    async def __aenter__(self) -> Self:
        await self._rest.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        """Without the tokens: they must not get into a log."""
        return f"ComfyStreamTrickleClient({self.base_url!r}, {self.subscribe_url!r} -> {self.publish_url!r})"

    async def close(self) -> None:
        """Drop the connection that `async with` keeps. A stream that runs goes on."""
        await self._rest.close()

    # What a stream is to do. All of these raise StreamRefused, TokenRefused, ServerUnreachable or UnexpectedAnswer, and
    # return the service's answer.

    async def start_stream(
        self,
        prompts: Any = None,
        width: int = 512,
        height: int = 512,
        *,
        params: Mapping[str, Any] | None = None,
        stream_id: str | None = None,
        gateway_request_id: str | None = None,
    ) -> dict[str, Any]:
        """Start a stream from `subscribe_url` to `publish_url`. `prompts` is a ComfyUI workflow in the API format, or a
        list of them; `params` are more parameters of the processor's; `width` and `height` are those of its frames."""
        channels = {
            "subscribe_url": self.subscribe_url,
            "publish_url": self.publish_url,
            "control_url": self.control_url,
            "events_url": self.events_url,
            "data_url": self.data_url,
            "stream_id": stream_id,
            "gateway_request_id": gateway_request_id,
        }
        request: dict[str, Any] = {key: value for key, value in channels.items() if value is not None}
        request["params"] = _parameters(params, prompts, width, height)
        answer = await self._rest.call("POST", "/stream/start", request, timeout_s=self._start_timeout_s)
        given = answer.get("stream_id", stream_id)
        self.stream_id = given if isinstance(given, str) else stream_id
        return answer

    async def update_prompts(self, prompts: Any, width: int | None = None, height: int | None = None) -> dict[str, Any]:
        """Give the running stream another workflow while frames flow."""
        request = _parameters(None, prompts, width, height)
        return await self._rest.call("POST", "/api/prompts/update", request, timeout_s=self._start_timeout_s)

    async def update_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Give the stream's processor new parameters while frames flow."""
        path = self._stream_path("params")
        return await self._rest.call("POST", path, dict(params), timeout_s=self._start_timeout_s)

    async def get_status(self) -> dict[str, Any]:
        """What is known of the stream."""
        return await self._rest.call("GET", self._stream_path("status"), timeout_s=self._timeout_s)

    async def stop_stream(self) -> dict[str, Any]:
        """Stop the stream. The node ends its output channel."""
        answer = await self._rest.call("POST", self._stream_path("stop"), {}, timeout_s=self._start_timeout_s)
        self.stream_id = None
        return answer

    async def pause_stream(self, *, show: Literal["last_frame", "input"] = "last_frame") -> dict[str, Any]:
        """Leave the processor alone; viewers go on to see the frame before, or the input as it is."""
        return await self._rest.call("POST", self._stream_path("pause"), {"show": show}, timeout_s=self._timeout_s)

    async def resume_stream(self) -> dict[str, Any]:
        """Process frames again."""
        return await self._rest.call("POST", self._stream_path("resume"), {}, timeout_s=self._timeout_s)

    async def streams(self) -> dict[str, Any]:
        """Every stream of the node."""
        return await self._rest.call("GET", "/streams", timeout_s=self._timeout_s)

    async def health(self) -> dict[str, Any]:
        """How the node is; also when it says that it is not well (503)."""
        return await self._rest.call("GET", "/health", timeout_s=self._timeout_s, accept=(503,))

    async def wait_until_ready(self, patience_s: float = START_TIMEOUT_S) -> dict[str, Any]:
        """Wait until the node answers and has loaded its model; returns what it says of its health then. A stream that
        begins earlier misses what its source sends meanwhile. Raises ServerUnreachable after `patience_s`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience_s
        while True:
            try:
                health = await self.health()
                if health.get("status") != "LOADING":
                    return health
                if loop.time() >= deadline:
                    raise ServerUnreachable(f"{self.base_url} is still loading after {patience_s:g} s; look at its log")
            except ServerUnreachable:
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(LOOK_S)

    async def version(self) -> dict[str, Any]:
        return await self._rest.call("GET", "/version", timeout_s=self._timeout_s)

    # What goes in.

    async def publish_file(self, path: str | PathLike[str]) -> Published:
        """Play a media file live into `subscribe_url`; see `publishing.publish_file`."""
        return await publish_file(fspath(path), self._channel("subscribe_url"))

    async def publish_frames(
        self, frames: AsyncIterable[Any], *, fps: float = DEFAULT_FPS, bitrate: int = DEFAULT_BITRATE
    ) -> Published:
        """Encode pictures and send them into `subscribe_url` as they come, at most `fps` a second and `bitrate` bits a
        second. A picture is uint8 (height, width, 3), or floats in [0, 1] of that shape with or without a batch of one
        in front: arrays or torch tensors. See `publishing.publish_frames`."""
        return await publish_frames(frames, self._channel("subscribe_url"), fps, bitrate)

    async def publish_device(
        self,
        url: str,
        format: str | None = None,
        options: Mapping[str, str] | None = None,
        *,
        fps: float = DEFAULT_FPS,
        bitrate: int = DEFAULT_BITRATE,
    ) -> Published:
        """Send into `subscribe_url` the pictures of whatever FFmpeg opens: see `capture.captured`."""
        async with aclosing(captured(url, format, options)) as pictures:
            return await self.publish_frames(pictures, fps=fps, bitrate=bitrate)

    # What comes out.

    async def frames(
        self, *, as_tensor: bool = False, start_seq: int = _NEWEST, patience_s: float = PATIENCE_S
    ) -> AsyncGenerator[ReceivedFrame]:
        """The pictures of `publish_url`, decoded, until the stream ends: float32 (1, height, width, 3), RGB in [0, 1],
        each a numpy array, or with `as_tensor` a torch tensor on the CPU, in memory of its own.

        `start_seq` is the first segment: -2 the newest, 0 that of the stream's beginning if it is still there. Raises
        ChannelUnavailable when the channel has not been there for `patience_s` seconds, ClientError when tensors are
        asked for and torch is not installed.
        """
        to_tensor = _torch().from_numpy if as_tensor else None
        async with aclosing(received_frames(self._channel("publish_url"), start_seq, patience_s)) as frames:
            async for frame in frames:
                yield frame if to_tensor is None else frame._replace(image=to_tensor(frame.image))

    async def events(self, *, start_seq: int = _FROM_THE_START, patience_s: float = PATIENCE_S) -> AsyncGenerator[Any]:
        """What `events_url` says, one JSON value after the other, until the stream ends. A line that is no JSON comes
        as a str. Raises as `frames`, and ValueError while `events_url` is None."""
        async with aclosing(json_lines(self._channel("events_url"), start_seq, patience_s)) as values:
            async for value in values:
                yield value

    async def data(self, *, start_seq: int = _FROM_THE_START, patience_s: float = PATIENCE_S) -> AsyncGenerator[Any]:
        """What `data_url` says, as `events` does for `events_url`."""
        async with aclosing(json_lines(self._channel("data_url"), start_seq, patience_s)) as values:
            async for value in values:
                yield value

    def _channel(self, attribute: str) -> Channel:
        url = getattr(self, attribute)
        if url is None:
            raise ValueError(f"{attribute} is not set; set it before start_stream, to the URL of a trickle channel")
        return Channel(url, self._media_token, self._ssl_context)

    def _stream_path(self, what: str) -> str:
        return f"/stream/{what}" if self.stream_id is None else f"/stream/{quote(self.stream_id, safe='')}/{what}"


def _parameters(
    params: Mapping[str, Any] | None, prompts: Any, width: int | None, height: int | None
) -> dict[str, Any]:
    given = {"prompts": prompts, "width": width, "height": height}
    return {**(params or {}), **{key: value for key, value in given.items() if value is not None}}


def _token(name: str, token: str | None) -> str | None:
    if token is None:
        return None
    token = reveal(token)
    if not AUTHORIZATION.fullmatch(f"bearer {token}"):
        raise ValueError(f"{name}: not a bearer token; allowed: letters, digits, - . _ ~ + / and = at its end")
    return token


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ClientError("as_tensor needs torch, which is not installed: pip install torch") from error
    return torch
