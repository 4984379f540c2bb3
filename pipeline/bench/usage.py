"""What the processes of a pipeline use, looked at from outside: the launcher itself looks once a second only."""

import contextlib
from collections.abc import Iterable

import msgspec
import psutil

LAUNCHER = "launcher"
_WORKERS = "workers."


class Used(msgspec.Struct, frozen=True):
    """CPU seconds so far, and resident megabytes now."""

    cpu_s: float
    rss_mb: float


def used_by_worker(launcher: int) -> dict[str, Used]:
    """All processes of one kind together, by worker, and the launcher. Processes that have ended are in none."""
    found: dict[str, list[Used]] = {}
    for process in processes_of(launcher):
        with contextlib.suppress(psutil.NoSuchProcess):
            if worker := worker_of(process, launcher):
                found.setdefault(worker, []).append(Used(cpu_s_of(process), process.memory_info().rss / 1e6))
    return {worker: _together(used) for worker, used in found.items()}


def processes_of(launcher: int) -> list[psutil.Process]:
    """The launcher and everything below it. Raises psutil.NoSuchProcess when it is gone."""
    root = psutil.Process(launcher)
    return [root, *root.children(recursive=True)]


def cpu_s_of(process: psutil.Process) -> float:
    """So far, of a process that is alive."""
    times = process.cpu_times()
    return float(times.user + times.system)


def worker_of(process: psutil.Process, launcher: int) -> str:
    """What the process does; empty for one that is none of the pipeline's. `launcher` is the pid of that. Raises
    psutil.NoSuchProcess."""
    if process.pid == launcher:
        return LAUNCHER
    return next((word.removeprefix(_WORKERS) for word in process.cmdline() if word.startswith(_WORKERS)), "")


def _together(used: Iterable[Used]) -> Used:
    used = list(used)
    return Used(sum(one.cpu_s for one in used), sum(one.rss_mb for one in used))
