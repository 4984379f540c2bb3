"""The directory of a running pipeline: its lock and its sockets. One pipeline of a name per user at a time."""

import errno
import fcntl
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Self

CONTROL = "control"
"""Name of the launcher's socket."""

MAX_PATH_BYTES = 107 - len("/") - 32
"""A UNIX address has 107 bytes, and a socket may be named after a link, which has up to 32."""


class AlreadyRunning(Exception):
    """A pipeline of this name runs already."""


class NotRunning(Exception):
    """No pipeline of this name runs."""


def run_dir(name: str) -> Path:
    """Where the pipeline `name` of this user keeps its sockets: in XDG_RUNTIME_DIR when there is one."""
    return _parent() / name


def control_endpoint(name: str | None = None) -> str:
    """Where the launcher of the running pipeline `name` listens; of the only one that runs when no name is given.

    Raises NotRunning, saying what does run.
    """
    names = running()
    if not names:
        raise NotRunning("no pipeline of this user is running")
    if name is None and len(names) == 1:
        (name,) = names
    if name is None:
        raise NotRunning(f"several pipelines are running, say which: {', '.join(names)}")
    if name not in names:
        raise NotRunning(f"no pipeline named {name!r} is running; running: {', '.join(names)}")
    return _endpoint(run_dir(name), CONTROL)


def running() -> list[str]:
    """The names of this user's running pipelines."""
    return sorted(line.parent.name for line in _parent().glob(f"*/{CONTROL}") if _is_heard(line))


def _parent() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "livepipe" if base else Path(tempfile.gettempdir()) / f"livepipe-{os.getuid()}"


def _endpoint(folder: Path, name: str) -> str:
    return f"ipc://{folder / name}"


def _is_heard(line: Path) -> bool:
    """Whether somebody listens on a socket: a killed launcher leaves its file, but nobody behind it. (Trying the lock
    instead would get in the way of a launcher that starts at that moment.)"""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(line)) == 0


class RunDir:
    """Owns the directory while the pipeline runs. The kernel drops the lock with the process, however it dies, so what
    a killed launcher left behind is simply taken over."""

    def __init__(self, name: str) -> None:
        """Raises AlreadyRunning with the other launcher's pid; OSError when the directory cannot be made."""
        self.path = run_dir(name)
        while True:
            self._make()
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(self._lock, 20, 0).decode().strip()
                os.close(self._lock)
                raise AlreadyRunning(
                    f"a pipeline named {name!r} is running already, pid {pid}; stop it or give this one another `name:`"
                ) from None
            if self._is_current():
                break
            os.close(self._lock)
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def _make(self) -> None:
        """The directory and the one above it, both for nobody but this user."""
        if len(os.fsencode(self.path)) > MAX_PATH_BYTES:
            problem = "too long for the address of a socket; set XDG_RUNTIME_DIR to a shorter directory of yours"
            raise OSError(errno.ENAMETOOLONG, problem, str(self.path))
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.mkdir(exist_ok=True, mode=0o700)
        for folder in (self.path.parent, self.path):
            if folder.stat().st_uid != os.getuid():
                raise PermissionError(f"{folder} belongs to another user; set XDG_RUNTIME_DIR to a directory of yours")

    def _is_current(self) -> bool:
        """Whether the locked file is still the one at the path; its owner may have removed it before we locked it."""
        try:
            return os.path.samestat(os.fstat(self._lock), os.stat(self.path / "lock"))
        except FileNotFoundError:
            return False

    def endpoint(self, name: str) -> str:
        """A ZeroMQ address in this directory."""
        return _endpoint(self.path, name)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
