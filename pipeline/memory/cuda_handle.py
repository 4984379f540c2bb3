"""The name of a slab in GPU memory: what a process must be told to open it. Imports nothing of CUDA, so that whoever
only passes the name on, as the launcher does, needs none."""

from typing import Literal

import msgspec

from pipeline.memory.slab import page_aligned

Route = Literal["ipc", "vmm"]
"""How the memory is shared; see pipeline.memory.cuda_slab."""


class CudaSlabHandle(msgspec.Struct, frozen=True):
    """One slab. `nbytes` is what was allocated, rounded up by the driver's granularity.

    Route "ipc": `ipc_handle` holds the 64 bytes of a CUipcMemHandle, good while the process that made it lives.
    Route "vmm": `fd` is a POSIX file descriptor of the process that holds this object; hand it on with `pass_fds`.
    """

    route: Route
    device: int
    nbytes: int
    ipc_handle: bytes | None = None
    fd: int | None = None

    @property
    def fds(self) -> list[int]:
        """The descriptors that a process must inherit to open the slab."""
        return [] if self.fd is None else [self.fd]


def slab_bytes(slots: int, slot_bytes: int) -> int:
    """Size of the slab of `slots` slots of `slot_bytes` bytes. Slot i begins at i * page_aligned(slot_bytes): the same
    stride as in host memory, and a multiple of the 512 bytes to which torch's own allocator aligns."""
    return slots * page_aligned(slot_bytes)
