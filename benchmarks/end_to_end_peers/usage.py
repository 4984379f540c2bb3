"""What processes use, looked at from outside: CPU seconds and resident memory of a contestant and of the harness."""

import time

import msgspec
import psutil

from pipeline.bench.machine import machine_cpu_s


class Sample(msgspec.Struct, frozen=True):
    """At CLOCK_MONOTONIC seconds: CPU seconds so far and resident megabytes of each of the contestant's processes; CPU
    seconds of the harness's; and of the whole machine, whoever used them."""

    at: float
    cpu_s: dict[str, float]
    rss_mb: dict[str, float]
    harness_s: dict[str, float]
    machine_s: float


class Meter:
    """Samples one contestant. Memory that several of its processes share counts in each."""

    def __init__(self, root: int | None, harness: dict[str, int]) -> None:
        """`root` is the contestant's first process: those that it has started are found. `harness` are pids by name."""
        processes = [] if root is None else [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
        self._contestant = {_name(process): process for process in processes}
        self._harness = {name: psutil.Process(pid) for name, pid in harness.items()}
        self._harness["harness"] = psutil.Process()
        self.samples: list[Sample] = []

    def take(self) -> None:
        """Raises psutil.NoSuchProcess when one has ended."""
        self.samples.append(
            Sample(
                at=time.monotonic(),
                cpu_s={name: _cpu_s(process) for name, process in self._contestant.items()},
                rss_mb={name: process.memory_info().rss / 1e6 for name, process in self._contestant.items()},
                harness_s={name: _cpu_s(process) for name, process in self._harness.items()},
                machine_s=machine_cpu_s(),
            )
        )


def _name(process: psutil.Process) -> str:
    """The stage, for a process of ours; else what the system calls it, and which of them it is."""
    words = process.cmdline()
    workers = [word.removeprefix("workers.") for word in words if word.startswith("workers.")]
    if workers:
        return workers[0]
    return "launcher" if "launcher.py" in words else f"{process.name()}-{process.pid}"


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
