"""What a benchmark was measured on, and whether anybody else was busy there when it began."""

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from pipeline import __version__
from pipeline.api.hardware import hardware_info
from pipeline.bench.report import Machine
from pipeline.usable_cores import usable_cores

VERSIONED = ("av", "numpy", "torch", "pyzmq", "msgspec")
LOOK_S = 1.0
MAX_OTHERS_CORES = 0.15
"""A machine of which more is busy before the start is not idle."""


def describe_machine() -> Machine:
    """As it is now: the load is that before the benchmark makes one."""
    cards = hardware_info("", "").gpu_info.values()
    return Machine(
        cpu=cpu_model(),
        cores=max(1, round(usable_cores())),
        memory_mb=round(psutil.virtual_memory().total / 1e6),
        gpus=[card.name for card in cards],
        system=platform.platform(),
        python=platform.python_version(),
        versions={"livepipe": __version__} | {name: _version(name) for name in VERSIONED},
        load=round(os.getloadavg()[0], 2),
    )


def idle_problem() -> str:
    """One line when something else keeps this machine busy; looks for LOOK_S seconds."""
    before = machine_cpu_s()
    time.sleep(LOOK_S)
    busy = (machine_cpu_s() - before) / LOOK_S
    if busy <= MAX_OTHERS_CORES:
        return ""
    return (
        f"the machine is not idle: {busy:.1f} of {usable_cores():g} cores were busy before the start, load "
        f"{os.getloadavg()[0]:.1f}; the figures say less about the pipeline than they could"
    )


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def machine_cpu_s() -> float:
    """Busy CPU seconds so far of the cores that this process may use, whoever used them, and what the host took
    away."""
    return sum(_busy_s(times) for core, times in enumerate(psutil.cpu_times(percpu=True)) if core in _cores())


def _busy_s(times: Any) -> float:
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _cores() -> set[int]:
    """Those that this process, and what it starts, may use."""
    return os.sched_getaffinity(0)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
