"""The kinds of values in a topology file, and the base of its sections."""

import ipaddress
from typing import Annotated, Literal

import msgspec

Policy = Literal["latest", "block"]

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
SecondsOrNever = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Bytes = Annotated[int, msgspec.Meta(ge=1024, le=1 << 40)]
Rate = Annotated[int, msgspec.Meta(ge=0, le=1 << 30)]
Name = Annotated[
    str,
    msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$", description="up to 32 letters, digits, - and _"),
]
Dimension = Annotated[int, msgspec.Meta(ge=16, le=8192, multiple_of=2)]

Device = Annotated[str, msgspec.Meta(pattern=r"^(auto|cpu|cuda:\d+)$", description="auto, cpu, cuda:N")]
MIN_BITRATE = 10_000
BitRate = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(\d{1,6}(\.\d{1,6})?[kM]|\d{5,12})$",
        description="bits per second from 10k on, such as 800000, 1500k, 2.5M",
    ),
]
Callable = Annotated[
    str,
    msgspec.Meta(pattern=r"^[\w.]+:[\w.]+$", description="module:name, such as pipeline.processors.torch_ops:edges"),
]


FrameMemory = Literal["host", "cuda-ipc", "cuda-vmm"]
"""Where frames lie between decode and egress: in host memory, or on the GPU, shared as CUDA IPC handles or as file
descriptors of virtual memory."""


def card_of(device: Device) -> int | None:
    """The number of the card that the topology's `device` names: the first one for auto, None for cpu."""
    if device == "cpu":
        return None
    return int(device.removeprefix("cuda:")) if device.startswith("cuda:") else 0


class TopologyError(Exception):
    """A mistake in a topology. `path` is dotted, such as `stages.decode.input`; the text says what is allowed."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


class Section(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    pass


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`, an address or a name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
