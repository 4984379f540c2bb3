"""The directory of a running pipeline: its lock and its sockets. One pipeline of a name per user at a time."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self


class AlreadyRunning(Exception):
    """A pipeline of this name runs already."""


def run_dir(name: str) -> Path:
    """Where the pipeline `name` of this user keeps its sockets: in XDG_RUNTIME_DIR when there is one."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    parent = Path(base) / "livepipe" if base else Path(tempfile.gettempdir()) / f"livepipe-{os.getuid()}"
    return parent / name


class RunDir:
    """Owns the directory while the pipeline runs. The kernel drops the lock with the process, however it dies, so what
    a killed launcher left behind is simply taken over."""

    def __init__(self, name: str) -> None:
        """Raises AlreadyRunning with the other launcher's pid; OSError when the directory cannot be made."""
        self.path = run_dir(name)
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.path.stat().st_uid != os.getuid():
            raise PermissionError(f"{self.path} belongs to another user; set XDG_RUNTIME_DIR to a directory of yours")
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._lock, 20, 0).decode().strip()
            os.close(self._lock)
            raise AlreadyRunning(
                f"a pipeline named {name!r} is running already, pid {pid}; stop it or give this one another `name:`"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def endpoint(self, name: str) -> str:
        """A ZeroMQ address in this directory."""
        return f"ipc://{self.path / name}"

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
