"""Everything that only a GPU can show, in one unattended run of less than 8 minutes.

`python -m benchmarks.gpu [--out report.json]`. The report is JSON, also printed on stdout; progress goes to stderr.
Each part runs in a process of its own: one that fails, hangs or dies leaves the others and its own earlier figures
alone. Without a device nothing is measured, the report says why, and the exit code is 0. See README.md here.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.part import ROOT

PARTS = {"tests": 160, "sharing": 40, "handover": 80, "copies": 40, "saturation": 60, "kills": 60}
"""Seconds that each part may take at most; a normal run takes half of them."""
MODULES = {"tests": "gpu_tests"}
MACHINE_SECONDS = 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the report there too")
    options = parser.parse_args()
    began = time.monotonic()
    machine = _run("machine", MACHINE_SECONDS)
    reason = machine.get("unavailable") or machine.get("error")
    if reason:
        print(f"nothing is measured: {reason}", file=sys.stderr)
        parts = {part: {"skipped": reason} for part in PARTS}
    else:
        with _awake():
            parts = {part: _run(MODULES.get(part, part), seconds) for part, seconds in PARTS.items()}
    report = json.dumps({"machine": machine, "parts": parts, "seconds": round(time.monotonic() - began, 1)}, indent=2)
    print(report)
    if options.out:
        options.out.write_text(report + "\n")


@contextlib.contextmanager
def _awake() -> Iterator[None]:
    """Hold the device open: with nobody on it the driver may let it go, and the next process waits seconds for it."""
    command = [sys.executable, "-m", "benchmarks.gpu.machine", "hold"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            yield
        finally:
            holder.kill()


def _run(module: str, seconds: float) -> dict[str, Any]:
    """The figures of a part, as far as it came."""
    print(f"{module}: running, {seconds} s at most", file=sys.stderr, flush=True)
    began = time.monotonic()
    with tempfile.TemporaryFile() as printed:
        command = [sys.executable, "-m", f"benchmarks.gpu.{module}"]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=printed, start_new_session=True)
        in_time = _ends(process.pid, seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # Before the wait: until then nobody else can have the number.
        code = process.wait()
        printed.seek(0)
        figures = dict(json.loads(line) for line in printed.read().splitlines() if line.startswith(b"["))
    if code and "error" not in figures:
        figures["error"] = f"exit code {code}" if in_time else f"took longer than {seconds} s"
    figures["seconds"] = round(time.monotonic() - began, 1)
    return figures


def _ends(pid: int, seconds: float) -> bool:
    """Whether the process ends within `seconds`."""
    pidfd = os.pidfd_open(pid)
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)


if __name__ == "__main__":
    main()
