"""`launcher.py inspect` on pipelines that run."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.running import ROOT, RunningPipeline

Launch = Callable[..., RunningPipeline]

STUCK = {"callable": "tests.integration.odd_ops:slow", "params": {"seconds": 3600}, "threads": 1}


def inspect(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "launcher.py", "inspect", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def slots_once_inference_is_stuck(name: str) -> list[dict[str, Any]]:
    while True:
        links = {link["link"]: link for link in json.loads(inspect(name, "--json").stdout)}
        slots = links["raw"]["slots"]
        if {slot["state"] for slot in slots} >= {"IN_USE", "READY"}:
            return slots


def test_inspect_shows_who_holds_which_slot_and_for_how_long(launch: Launch, source: Path) -> None:
    pipeline = launch(source, stages__inference__processor=STUCK)
    pipeline.wait_for("first_segment")
    (held,) = (slot for slot in slots_once_inference_is_stuck(pipeline.name) if slot["state"] == "IN_USE")
    assert (held["seq"], held["owner"], held["attempts"]) == (0, "inference#1", 0)
    shown = inspect(pipeline.name)
    assert shown.returncode == 0
    assert "raw: decode -> inference, block" in shown.stdout
    assert "styled: inference -> egress, block" in shown.stdout
    assert "inference#1" in shown.stdout
    (later,) = (slot for slot in slots_once_inference_is_stuck(pipeline.name) if slot["state"] == "IN_USE")
    assert later["age_ms"] > held["age_ms"]


def test_inspect_on_a_terminal_looks_on_until_the_pipeline_ends(launch: Launch, source: Path) -> None:
    pipeline = launch(source)
    pipeline.wait_for("ready stage=egress")
    leader, follower = pty.openpty()
    command = [sys.executable, "launcher.py", "inspect", pipeline.name]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "60"}
    with subprocess.Popen(command, cwd=ROOT, stdout=follower, stderr=follower, env=environment) as watching:
        os.close(follower)
        shown = b"".join(iter(lambda: read_terminal(leader), b""))
        assert watching.wait() == 0, shown
    os.close(leader)
    assert shown.count(b"decode -> inference") > 3
    assert b"Traceback" not in shown
    assert pipeline.end() == 0


def read_terminal(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # EIO: the other end is closed.
        return b""


def test_a_name_that_does_not_run_is_answered_with_those_that_do(launch: Launch, source: Path) -> None:
    pipeline = launch(source)
    pipeline.wait_for("ready stage=egress")
    answer = inspect("no-such-thing")
    assert answer.returncode == 2
    assert answer.stderr.startswith("no pipeline named 'no-such-thing' is running; running: ")
    assert pipeline.name in answer.stderr
    assert answer.stderr.count("\n") == 1
