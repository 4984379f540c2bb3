"""`launcher.py top`, `inspect` and `restart` on pipelines that run, and the stream of events."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from pipeline.control import ControlLine, EventStream
from pipeline.run_dir import control_endpoint
from pipeline.status import Status
from tests.integration.running import PATIENCE_S, ROOT, RunningPipeline

Launch = Callable[..., RunningPipeline]

STUCK = {"callable": "tests.integration.odd_ops:slow", "params": {"seconds": 3600}, "threads": 1}


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "launcher.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def slots_once_inference_is_stuck(name: str) -> list[dict[str, Any]]:
    while True:
        links = {link["link"]: link for link in json.loads(ask("inspect", name, "--once").stdout)}
        slots = links["raw"]["slots"]
        if {slot["state"] for slot in slots} >= {"IN_USE", "READY"}:
            return slots


def test_inspect_shows_who_holds_which_slot_and_for_how_long(launch: Launch, source: Path) -> None:
    pipeline = launch(source, stages__inference__processor=STUCK)
    pipeline.wait_for("first_segment")
    (held,) = (slot for slot in slots_once_inference_is_stuck(pipeline.name) if slot["state"] == "IN_USE")
    assert (held["seq"], held["owner"], held["attempts"]) == (0, "inference#1", 0)
    shown = ask("inspect", pipeline.name)
    assert shown.returncode == 0
    assert "raw: decode -> inference, block" in shown.stdout
    assert "styled: inference -> egress, block" in shown.stdout
    assert "inference#1" in shown.stdout
    (later,) = (slot for slot in slots_once_inference_is_stuck(pipeline.name) if slot["state"] == "IN_USE")
    assert later["age_ms"] > held["age_ms"]


def test_inspect_on_a_terminal_looks_on_until_the_pipeline_ends(launch: Launch, long_source: Path) -> None:
    pipeline = launch(long_source)
    pipeline.wait_for("ready stage=egress")
    leader, follower = pty.openpty()
    command = [sys.executable, "launcher.py", "inspect", pipeline.name]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "60"}
    with subprocess.Popen(command, cwd=ROOT, stdout=follower, stderr=follower, env=environment) as watching:
        os.close(follower)
        shown = b""
        while (more := read_terminal(leader)) and shown.count(b"decode -> inference") <= 3:
            shown += more
        pipeline.signal(signal.SIGINT)
        shown += b"".join(iter(lambda: read_terminal(leader), b""))
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


def test_a_name_that_does_not_run_is_answered_with_those_that_do(launch: Launch, long_source: Path) -> None:
    pipeline = launch(long_source)
    pipeline.wait_for("ready stage=egress")
    answer = ask("inspect", "no-such-thing")
    assert answer.returncode == 2
    assert answer.stderr.startswith("no pipeline named 'no-such-thing' is running; running: ")
    assert pipeline.name in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_top_shows_every_stage_and_link(launch: Launch, long_source: Path) -> None:
    pipeline = launch(long_source, api={"port": 0})
    pipeline.wait_for("first_frame stage=egress")
    shown = ask("top", pipeline.name).stdout
    assert f"{pipeline.name}: " in shown
    for name in ("relay", "api", "ingress", "decode", "inference", "egress", "raw", "styled", "decoded"):
        assert name in shown
    status = msgspec.json.decode(ask("top", pipeline.name, "--once").stdout, type=Status)
    (egress,) = (stage for stage in status.stages if stage.stage == "egress")
    assert egress.pid == pipeline.pid_of("egress")
    assert status.frames.balanced or status.state == "OK"


def test_a_stage_that_was_given_up_comes_back_at_a_persons_word(launch: Launch, long_source: Path) -> None:
    pipeline = launch(long_source, restart={"max_restarts": 0})
    pipeline.wait_for("first_frame stage=egress")
    os.kill(pipeline.pid_of("decode"), signal.SIGKILL)
    pipeline.wait_for("failed stage=decode")
    answer = ask("restart", "decode", pipeline.name)
    assert (answer.returncode, answer.stdout) == (0, "decode was FAILED; it is being started again\n")
    pipeline.wait_for("ready stage=decode", 2)
    pipeline.signal(signal.SIGINT)
    assert pipeline.end() == 0, pipeline.log
    status = pipeline.summary()
    assert (status.state, status.frames.in_flight) == ("FINISHED", 0)
    assert status.frames.balanced


def test_a_restart_of_a_running_stage_takes_nothing_from_its_budget(launch: Launch, long_source: Path) -> None:
    pipeline = launch(long_source, restart={"max_restarts": 0})
    pipeline.wait_for("first_frame stage=egress")
    assert ask("restart", "egress", pipeline.name).returncode == 0
    pipeline.wait_for("ready stage=egress", 2)
    pipeline.signal(signal.SIGINT)
    assert pipeline.end() == 0, pipeline.log
    assert pipeline.summary().frames.balanced


def test_a_restart_of_what_is_not_there_is_refused_in_one_line(launch: Launch, long_source: Path) -> None:
    pipeline = launch(long_source)
    pipeline.wait_for("ready stage=egress")
    answer = ask("restart", "encode", pipeline.name)
    assert answer.returncode == 2
    assert answer.stderr.startswith("no stage 'encode'; there are: relay, publisher, ingress, decode")
    assert answer.stderr.count("\n") == 1


def test_whoever_subscribes_hears_of_deaths_and_restarts(launch: Launch, long_source: Path) -> None:
    pipeline = launch(long_source)
    pipeline.wait_for("first_frame stage=egress")
    with EventStream(control_endpoint(pipeline.name)) as events:
        ControlLine(control_endpoint(pipeline.name)).status()  # The subscription was sent before, and has come too.
        os.kill(pipeline.pid_of("decode"), signal.SIGKILL)
        heard = []
        while not heard or (heard[-1].stage, heard[-1].name) != ("decode", "ready"):
            event = events.next(PATIENCE_S)
            assert event is not None, heard
            heard.append(event)
    died = next(event for event in heard if event.name == "died")
    assert (died.level, died.stage, died.fields["how"]) == ("error", "decode", "SIGKILL")
    names = [event.name for event in heard if event.stage == "decode"]
    assert names == ["died", "started", "ready"]
