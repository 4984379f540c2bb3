"""What the figures of a benchmark were measured on, in one line."""

import os
import platform
from collections.abc import Mapping

from pipeline.bench.machine import cpu_model


def describe(load: float, versions: Mapping[str, str]) -> str:
    """The processor, the load average before the run, and the versions of what was measured."""
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{cpu_model()}, {os.cpu_count()} cores, load {load:.1f}, {platform.platform()}, "
        f"Python {platform.python_version()}, {named}"
    )
