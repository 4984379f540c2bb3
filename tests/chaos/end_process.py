"""A real process at one end of a link, which runs one function of `link_ends` in an interpreter of its own."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name

import msgspec

from pipeline.boot import LinkBoot
from tests.chaos.lone_process import die_with_parent, one_thread

_ROOT = Path(__file__).resolve().parents[2]
_LOOK_SECONDS = 0.05


class EndProcess:
    """`end(boot, *numbers)`, running. What it prints is read line by line."""

    def __init__(self, end: Callable[..., None], boot: LinkBoot, *numbers: float) -> None:
        name = f"{end.__module__}:{end.__name__}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, name, msgspec.msgpack.encode(boot).hex(), *map(str, numbers)],
            cwd=_ROOT,
            pass_fds=boot.fds,
            env=one_thread(),
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self._pidfd = os.pidfd_open(self.pid)

    def hear(self) -> tuple[int, ...]:
        """The numbers of its next line; none once it has ended."""
        assert self._process.stdout is not None
        return tuple(map(int, self._process.stdout.readline().split()))

    def hear_all(self) -> list[tuple[int, ...]]:
        """The numbers of all its lines from here on, once it has ended."""
        lines = list(iter(self.hear, ()))
        assert self._process.wait() == 0
        return lines

    def wait_until_stopped(self) -> None:
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def wait_until_asleep(self) -> None:
        """Until no thread of it runs or wants to. What wakes up more often than we look is never asleep."""
        before: dict[str, list[str]] = {}
        while (now := self.activity()) != before or not all("sleeping" in state for state, *_ in now.values()):
            before = now
            time.sleep(_LOOK_SECONDS)

    def activity(self) -> dict[str, list[str]]:
        """By thread: its state, and how often it went to sleep and was put to sleep so far."""
        return {task.name: _activity(task) for task in Path(f"/proc/{self.pid}/task").iterdir()}

    def go_on(self) -> None:
        """SIGCONT. Raises ProcessLookupError when it is dead: not even its number can be hit in its place."""
        signal.pidfd_send_signal(self._pidfd, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait for the death."""
        signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        select.select([self._pidfd], [], [])
        self._process.wait()

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()
        os.close(self._pidfd)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _activity(task: Path) -> list[str]:
    lines = (task / "status").read_text().splitlines()
    return [line for line in lines if line.startswith("State") or "ctxt_switches" in line]


if __name__ == "__main__":
    die_with_parent()
    _, _name, _boot, *_numbers = sys.argv
    resolve_name(_name)(msgspec.msgpack.decode(bytes.fromhex(_boot), type=LinkBoot), *map(float, _numbers))
