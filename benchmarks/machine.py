"""What the figures of a benchmark were measured on, in one line."""

import os
import platform
from collections.abc import Mapping
from pathlib import Path


def describe(load: float, versions: Mapping[str, str]) -> str:
    """The processor, the load average before the run, and the versions of what was measured."""
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{_cpu_model()}, {os.cpu_count()} cores, load {load:.1f}, {platform.platform()}, "
        f"Python {platform.python_version()}, {named}"
    )


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
