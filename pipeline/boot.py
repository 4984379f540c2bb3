"""What a worker is told at its birth: its part of the topology, and the memory, bells and sockets that it inherits. The
types are the schema; what is said later is in `messages`."""

import math
from typing import Any, Literal

import msgspec

from pipeline.media.excerpt import Excerpt
from pipeline.memory.cuda_handle import CudaSlabHandle
from pipeline.topology import AnyStage
from pipeline.topology_logs import Level
from pipeline.topology_sections import Api, Frame, Recording, Relay
from pipeline.topology_values import Policy


class FrameFormat(msgspec.Struct, frozen=True):
    """The largest picture that a slot of a frame link holds: uint8 RGB, shape (height, width, 3), contiguous. A smaller
    one lies at the slot's start; the slot's record says its size."""

    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, 3

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape)

    def holds(self, width: int, height: int) -> bool:
        """Whether a picture of this size fits."""
        return 0 < width * height <= self.width * self.height


class LinkBoot(msgspec.Struct, frozen=True):
    """A frame link as a worker inherits it: its memory, and the bells that say that a slot became READY or FREE."""

    name: str
    fd: int
    slots: int
    policy: Policy
    format: FrameFormat
    ready_fd: int
    free_fd: int
    cuda: CudaSlabHandle | None = None
    """Where the pixels lie if not in `fd`, which then holds the table alone."""

    @property
    def host_slot_bytes(self) -> int:
        """Bytes of a slot's pixels in `fd`."""
        return self.format.nbytes if self.cuda is None else 0

    @property
    def own_fds(self) -> list[int]:
        """The descriptors that were made with the link."""
        return [self.fd, self.ready_fd, self.free_fd]

    @property
    def fds(self) -> list[int]:
        """The descriptors that a worker must inherit to attach."""
        return [*self.own_fds, *(self.cuda.fds if self.cuda else ())]


class EncodedBoot(msgspec.Struct, frozen=True):
    """The link of encoded bytes between ingress and decode as a worker inherits it."""

    name: str
    fd: int
    endpoint: str
    buffer_bytes: int


class Pause(msgspec.Struct, frozen=True):
    """Frames are not processed for now. `show` is what viewers see: the frame before, or the input as it is."""

    show: Literal["last_frame", "input"] = "last_frame"


class TraceBoot(msgspec.Struct, frozen=True):
    """Where a process notes the hop times of one frame in `every`: ring number `ring` of the slab."""

    fd: int
    ring: int
    every: int


class TapBoot(msgspec.Struct, frozen=True):
    """Where a recorder listens, and the recording that is being made; empty: none. `waits`: rather than lose something
    for it, as a file can and a live stream cannot."""

    endpoint: str
    recording: str
    waits: bool


class LaneBoot(msgspec.Struct, frozen=True):
    """One stream's way through inference, lane `number`: the links before and behind it, the stream that runs, or ran
    last, and its number, `epoch`: empty and -1 before the first on request. `params` are the processor's for this
    stream alone, `pause`: it is left alone. Egress listens for sound and text at `audio_endpoint`; the process itself
    for decoded sound, if the processor takes it, at `samples_endpoint`."""

    number: int
    stream: str
    epoch: int
    input: LinkBoot
    output: LinkBoot
    audio_endpoint: str
    samples_endpoint: str | None = None
    params: dict[str, Any] | None = None
    pause: Pause | None = None
    weight: float = 1.0


class WorkerBoot(msgspec.Struct, frozen=True):
    """All that a worker is told. It comes in a memfd whose number is on the command line."""

    pipeline: str
    stage: str
    section: str
    """Where the topology says what it is to do, such as `stages.decode`, for what is said to its author."""
    incarnation: int
    launcher_pid: int
    control_endpoint: str
    stream: str
    epoch: int
    log_level: Level
    device: str
    frame: Frame
    stats_fd: int
    spec: AnyStage | None = None
    relay_url: str | None = None
    relay_token: str | None = None
    """What opens the embedded relay to a stage that uses it, as the topology has it: `${NAME}` is for the worker to
    look up, so that the secret is in its environment alone."""
    api_url: str | None = None
    listen_fd: int | None = None
    media_fds: tuple[int, ...] = ()
    """More listening sockets of the relay's."""
    tls_fd: int | None = None
    """And the one that speaks TLS."""
    relay: Relay | None = None
    """The relay's section, for the relay alone: it holds the tokens."""
    api: Api | None = None
    """The api's section, for the api alone, for the same reason."""
    otel: str | None = None
    """The collector that traced frames are sent to, for the process that sends them."""
    encoded: EncodedBoot | None = None
    input: LinkBoot | None = None
    output: LinkBoot | None = None
    audio_endpoint: str | None = None
    """Where egress listens for sound and text."""
    samples_endpoint: str | None = None
    """Where inference listens for decoded sound, if its processor takes it."""
    keep_alive: float = 0.0
    live: bool = False
    """Whether the output follows the clock: then late frames are dropped, which else are waited for."""
    excerpt: Excerpt | None = None
    """The part of a file that is shown; ingress begins to read where decoding it has to begin."""
    trace: TraceBoot | None = None
    tap: TapBoot | None = None
    recording: Recording | None = None
    """The section of the recording, for the process that writes it."""
    changes_from: str | None = None
    """A recording that is fed again: decode and inference take the parameters that were changed in it."""
    on_request: bool = False
    """Whether other streams come after this one: then inference waits for the next. `stream` is empty, and `epoch` -1,
    before the first."""
    allow_private: bool | None = None
    """Somebody who asked for the stream named the URLs: whether they may lead to this machine and to private networks.
    None: they are the topology's."""
    lanes: tuple[LaneBoot, ...] = ()
    """For inference alone: the streams that it serves, each in its place."""
    of_several: bool = False
    """For inference alone: whether a process of its stage serves several streams, even if this one serves one."""
    source_timeout: float | None = None
    """Seconds without a byte from the source after which the stream is at its end; None: it is waited for."""

    @property
    def inputs(self) -> list[LinkBoot]:
        """The frame links before the process."""
        return [link for link in (self.input, *(lane.input for lane in self.lanes)) if link is not None]

    @property
    def outputs(self) -> list[LinkBoot]:
        """And those behind it."""
        return [link for link in (self.output, *(lane.output for lane in self.lanes)) if link is not None]

    @property
    def identity(self) -> bytes:
        """The process's address on the control socket."""
        return f"{self.stage}#{self.incarnation}".encode()
