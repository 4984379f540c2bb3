"""How many CPU cores this process, and what it starts, may use: not all that the machine has."""

import contextlib
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def usable_cores(root: Path = CGROUPS, own: Path = OWN) -> float:
    """Those of its affinity, or fewer where a cgroup, such as a container's, has a quota of CPU time: `cpu.max` of
    cgroup v2 (https://docs.kernel.org/admin-guide/cgroup-v2.html, cpu.max)."""
    cores = float(len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        path = root / own.read_text().splitlines()[-1].partition("::")[2].lstrip("/")
        for folder in (path, *path.parents):
            if folder == root.parent:
                break
            cores = min(cores, _quota(folder / "cpu.max"))
    return cores


def _quota(file: Path) -> float:
    """Cores; infinite where there is none. Raises ValueError for what is no quota."""
    if not file.exists():
        return float("inf")
    quota, _, period = file.read_text().strip().partition(" ")
    return float("inf") if quota == "max" else int(quota) / int(period)
