"""The process that owns the slabs in GPU memory: its work (`serve`), and the launcher's hold of it (`Allocator`).

It runs no user code and nothing on the device but the memset that zeroes the slabs, so that it does not die of what a
stage dies of: on the route "ipc" everybody's mapping depends on its life. It is no stage and gets no WorkerBoot.

On the line between the two, a SOCK_SEQPACKET pair: one AllocationRequest, one answer with the descriptors attached,
and then nothing until the launcher hangs up.
"""

import contextlib
import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Self

import msgspec

from pipeline.memory.cuda_driver import CudaDriver, CudaError, CudaUnavailable
from pipeline.memory.cuda_handle import CudaSlabHandle, Route
from pipeline.memory.cuda_slab import allocate

START_SECONDS = 60.0
"""The first CUDA context on a machine with many devices has been seen to take seconds."""
STOP_SECONDS = 10.0

_MESSAGE_BYTES = 64 * 1024
_MAX_FDS = 253
"""SCM_MAX_FD of Linux: more descriptors do not go into one message."""
_ROOT = Path(__file__).resolve().parents[2]


class AllocationRequest(msgspec.Struct, frozen=True):
    """To the allocator: make these slabs, `slabs` giving the bytes of each by its name."""

    device: int
    route: Route
    slabs: dict[str, int]


class Allocated(msgspec.Struct, frozen=True, tag="allocated"):
    """From the allocator. The descriptors of the handles come with it in the same order, under their numbers there."""

    handles: dict[str, CudaSlabHandle]


class AllocationRefused(msgspec.Struct, frozen=True, tag="refused"):
    """From the allocator, before it exits. `reason` is one line for the user."""

    reason: str


class Allocator:
    """The allocator process as its parent sees it, from the answer to its one request until `close`.

    `handles` gives the slabs by name, their descriptors being this process's. `pidfd` becomes readable should the
    allocator die, which ends the route "ipc"; on the route "vmm" these descriptors keep the memory. Start it from the
    main thread: the kernel kills it with the thread that started it.
    """

    def __init__(self, device: int, route: Route, slabs: dict[str, int]) -> None:
        """`slabs` gives bytes by name. Raises CudaUnavailable with the allocator's reason, and OSError when no process
        can be started."""
        self._held = contextlib.ExitStack()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._process = _spawn(theirs.fileno())
            except OSError:
                self._line.close()
                raise
        try:
            self.pid = self._process.pid
            self.pidfd = os.pidfd_open(self.pid)
            self._held.callback(os.close, self.pidfd)
            self.handles = self._ask(AllocationRequest(device, route, slabs))
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Until it has been waited for."""
        return self._process.returncode is None

    def wait(self) -> int:
        """Wait until the allocator is dead. Returns its exit code, negative for a signal."""
        return self._process.wait()

    def close(self) -> None:
        """Hang up, which ends the allocator and frees its memory, and close the descriptors. Stages that have a slab of
        the route "ipc" open must be gone. A second call does nothing."""
        self._line.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: AllocationRequest) -> dict[str, CudaSlabHandle]:
        self._line.settimeout(START_SECONDS)
        try:
            self._line.send(msgspec.msgpack.encode(request))
            data, fds, _, _ = socket.recv_fds(self._line, _MESSAGE_BYTES, _MAX_FDS)
        except TimeoutError as error:
            raise CudaUnavailable(f"the GPU allocator gave no answer within {START_SECONDS:.0f} s") from error
        except ConnectionError:
            data, fds = b"", []
        for fd in fds:
            self._held.callback(os.close, fd)
            os.set_inheritable(fd, False)
        if not data:
            raise CudaUnavailable(f"the GPU allocator died before it answered, exit code {self.wait()}")
        answer = msgspec.msgpack.decode(data, type=Allocated | AllocationRefused)
        if isinstance(answer, AllocationRefused):
            raise CudaUnavailable(answer.reason)
        ours = iter(fds)
        return {
            name: handle if handle.fd is None else msgspec.structs.replace(handle, fd=next(ours))
            for name, handle in answer.handles.items()
        }


def serve(line: socket.socket) -> None:
    """The allocator's life: answer the one request on `line`, keep what was made until the other end is closed."""
    request = msgspec.msgpack.decode(line.recv(_MESSAGE_BYTES), type=AllocationRequest)
    with contextlib.ExitStack() as held:
        try:
            handles = _make(request, held)
        except (CudaUnavailable, CudaError) as error:
            _refuse(line, str(error))
        except Exception as error:  # noqa: BLE001 - the outermost loop of the process
            traceback.print_exc()
            _refuse(line, f"the GPU allocator failed: {type(error).__name__}: {error}")
        else:
            fds = [fd for handle in handles.values() for fd in handle.fds]
            socket.send_fds(line, [msgspec.msgpack.encode(Allocated(handles))], fds)
            line.recv(1)


def _make(request: AllocationRequest, held: contextlib.ExitStack) -> dict[str, CudaSlabHandle]:
    driver = held.enter_context(CudaDriver(request.device))
    handles = {}
    for name, nbytes in request.slabs.items():
        try:
            allocation = allocate(driver, nbytes, request.route)
        except CudaError as error:
            needed = f"{nbytes / 1e6:.1f} MB of shared memory for link {name}"
            raise CudaUnavailable(f"CUDA device {request.device} does not give {needed}: {error}") from error
        held.callback(allocation.close)
        handles[name] = allocation.handle
    return handles


def _refuse(line: socket.socket, reason: str) -> None:
    line.send(msgspec.msgpack.encode(AllocationRefused(" ".join(reason.split()))))


def _spawn(socket_fd: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "workers.allocator", "--socket-fd", str(socket_fd)]
    return subprocess.Popen(
        [*command, "--launcher-pid", str(os.getpid())],
        pass_fds=[socket_fd],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        cwd=_ROOT,
    )
