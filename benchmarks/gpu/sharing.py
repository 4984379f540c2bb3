"""Part "sharing": whether two processes can share GPU memory here, by either route, and whether that of the route "vmm"
outlives the SIGKILL of its exporter."""

from collections.abc import Callable
from typing import Any

from benchmarks.gpu.part import DEVICE, Figures, attempt, report
from pipeline.memory.cuda_probe import probe, probe_survival


def measure() -> Figures:
    yield "vmm", attempt(_works, probe, DEVICE, "vmm")
    yield "ipc", attempt(_works, probe, DEVICE, "ipc")
    yield "vmm_survives_exporter", attempt(_works, probe_survival, DEVICE)


def _works(check: Callable[..., None], *arguments: Any) -> bool:
    check(*arguments)
    return True


if __name__ == "__main__":
    report(measure())
