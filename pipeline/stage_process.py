"""One stage's process: start it, hear what it prints, see it die, kill it. It decides nothing; the supervisor does."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys

import psutil

from pipeline.boot import WorkerBoot
from pipeline.import_path import import_path
from pipeline.run_dir import run_dir
from pipeline.stage_output import StageOutput
from pipeline.status import Usage
from pipeline.worker_boots import encode_boot

_PR_SET_CHILD_SUBREAPER = 36


class StageProcess:
    """A worker in a process group of its own. `pidfd` becomes readable when it dies, `output.fd` when it prints."""

    def __init__(self, boot: WorkerBoot, worker: str, fds: list[int]) -> None:
        """Raises OSError when the interpreter cannot be started."""
        self.boot = boot
        boot_fd = encode_boot(boot)
        python = (boot.spec.python if boot.spec else None) or sys.executable
        try:
            self._process = subprocess.Popen(
                [python, "-P", "-m", f"workers.{worker}", f"{boot.pipeline}:{boot.stage}", "--boot-fd", str(boot_fd)],
                pass_fds=[*fds, boot_fd],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_environment(worker, import_path(run_dir(boot.pipeline))),
            )
        finally:
            os.close(boot_fd)
        self.pid = self._process.pid
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except OSError:
            self.wait()  # What cannot be watched must not run.
            raise
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self.output = StageOutput(self._process.stdout.fileno())
        self._usage = psutil.Process(self.pid)
        self._usage_now = Usage()

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None before `wait`."""
        return self._process.returncode

    def usage(self) -> Usage:
        """What it uses; of a process that was reaped, what was known before."""
        with contextlib.suppress(psutil.Error):
            self._usage_now = usage_of(self._usage)
        return self._usage_now

    def left_well(self) -> bool:
        """Whether the process is dead and its exit code 0; it still has to be reaped."""
        with contextlib.suppress(ChildProcessError):
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            return found is not None and found.si_code == os.CLD_EXITED and found.si_status == 0
        return False

    def kill(self) -> None:
        """SIGKILL to the whole process group. Its death still has to be waited for."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Reap the process, which must be dead or dying, and what is left of its group. Returns the exit code.

        The group goes first: while its leader is a zombie, nobody else can have been given the number.
        """
        self.kill()
        return self._process.wait()

    def close(self) -> None:
        os.close(self.pidfd)
        if self._process.stdout is not None:
            self._process.stdout.close()


def usage_of(process: psutil.Process) -> Usage:
    """Raises psutil.Error when the kernel does not say, or no longer."""
    with process.oneshot():
        times = process.cpu_times()
        return Usage(
            cpu_s=times.user + times.system,
            rss_bytes=process.memory_info().rss,
            threads=process.num_threads(),
            open_fds=process.num_fds(),
        )


def become_reaper() -> None:
    """Have every process below this one that loses its parent come to this one, and not to process 1
    (PR_SET_CHILD_SUBREAPER, prctl(2)): so nothing that a stage's code leaves behind gets away."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _environment(worker: str, python_path: str) -> dict[str, str]:
    environment = os.environ | {"PYTHONPATH": python_path, "PYTHONUNBUFFERED": "1"}
    if worker != "inference":
        # Threads for numpy's linear algebra cost 90 ms of CPU at every start, and only processors have a use for them.
        environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    if worker == "relay":
        # Pieces of all sizes that live as long as five segments fragment glibc's heap: 4 MB in a few thousand segments,
        # and none of it without the caches of threads, which cost as much time as they save here.
        environment.setdefault("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")
    return environment
