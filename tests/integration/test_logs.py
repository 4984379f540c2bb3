"""What is logged of a pipeline that runs: for people, for machines, of a worker that floods, at another level."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.stage_output import MAX_BURST
from tests.integration.running import ROOT, RunningPipeline, topology
from tests.test_events import documented

NEEDLESS = 3 * MAX_BURST


class Logged(RunningPipeline):
    """With everything that is in its log file."""

    log_file: Path

    def objects(self, **wanted: Any) -> list[dict[str, Any]]:
        """What the file says, of the lines that have these fields."""
        said = [json.loads(line) for line in self.log_file.read_text().splitlines()]
        return [line for line in said if wanted.items() <= line.items()]

    def set_level(self, stage: str, level: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "launcher.py", "log-level", stage, level, self.name]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def pipeline(long_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    folder = tmp_path_factory.mktemp("logs")
    talks = {
        "callable": "tests.integration.odd_ops:talks_and_dies",
        "params": {"mark": str(folder / "mark"), "lines": NEEDLESS},
        "threads": 1,
    }
    logs = {"stages": {"recorder": "WARNING"}, "file": {"path": str(folder / "livepipe.log")}}
    asked = topology("t-logs", folder, long_source, stages__inference__processor=talks, logs=logs)
    with Logged(asked, folder) as pipeline:
        pipeline.log_file = folder / "livepipe.log"
        pipeline.wait_for("first_frame stage=egress")
        yield pipeline


def test_people_read_the_time_of_day_the_level_the_event_and_its_fields(pipeline: Logged) -> None:
    line = pipeline.wait_for("started stage=decode").string
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} INFO started stage=decode pid=\d+ incarnation=1", line)


def test_machines_read_the_same_in_the_file(pipeline: Logged) -> None:
    (started,) = pipeline.objects(event="started", stage="decode")
    assert (started["level"], started["pipeline"], started["pid"]) == ("INFO", "t-logs", pipeline.pid_of("decode"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", started["time"])


def test_a_stage_below_its_level_is_not_heard_of(pipeline: Logged) -> None:
    assert not pipeline.objects(stage="recorder")


def test_a_worker_that_floods_is_shown_in_part_and_its_last_lines_come_with_its_death(pipeline: Logged) -> None:
    pipeline.wait_for("died stage=inference")
    shown = [
        line for line in pipeline.objects(stage="inference", event="output") if line["line"].startswith("needless")
    ]
    hidden = sum(line["lines"] for line in pipeline.objects(stage="inference", event="output_not_shown"))
    assert len(shown) + hidden == NEEDLESS + 2
    assert MAX_BURST - 100 < len(shown) < NEEDLESS
    (died,) = pipeline.objects(stage="inference", event="died")
    assert died["how"] == "exit code 7"
    assert died["last_lines"].endswith("needless 2999\ncannot go on:\n  out of words")
    assert died["last_lines"].count("\n") == 7


def test_what_a_workers_own_log_says_comes_as_an_event_with_its_level(pipeline: Logged) -> None:
    """The relay is told to log, and is no exception."""
    (created,) = pipeline.objects(event="relay.channel_created", channel="output")
    assert (created["stage"], created["level"]) == ("relay", "INFO")
    assert pipeline.wait_for("INFO relay.channel_created stage=relay channel=output")


def test_a_level_is_changed_while_it_runs_and_holds_for_the_processes_that_come(pipeline: Logged) -> None:
    assert not pipeline.objects(event="segment_read")
    answer = pipeline.set_level("ingress", "debug")
    assert (answer.returncode, answer.stdout) == (0, "ingress logs from DEBUG on; before from INFO on\n")
    pipeline.wait_for("DEBUG segment_read stage=ingress")
    os.kill(pipeline.pid_of("ingress"), signal.SIGKILL)
    pipeline.wait_for("ready stage=ingress", 2)
    seen = len(pipeline.objects(event="segment_read"))
    pipeline.wait_for("DEBUG segment_read stage=ingress", seen + 1)
    answer = pipeline.set_level("launcher", "ERROR")
    assert answer.stdout == "launcher logs from ERROR on; before from INFO on\n"


def test_a_reload_goes_back_to_the_levels_of_the_file(pipeline: Logged) -> None:
    assert pipeline.set_level("launcher", "ERROR").stdout.startswith("launcher logs from ERROR on")
    pipeline.signal(signal.SIGHUP)
    pipeline.wait_for("INFO reloaded stage=launcher changed=nothing")


def test_every_event_that_was_logged_is_documented(pipeline: Logged) -> None:
    logged = {line["event"] for line in pipeline.objects()}
    assert logged <= set(documented())
    assert len(logged) > 10


@pytest.mark.parametrize(
    ("stage", "level", "said"),
    [
        ("encode", "INFO", "no stage 'encode'; there are: launcher, relay, publisher, ingress, "),
        ("decode", "loud", "invalid choice: 'LOUD' (choose from 'DEBUG', 'INFO', 'WARNING', 'ERROR')"),
    ],
)
def test_what_is_no_stage_or_no_level_is_refused(pipeline: Logged, stage: str, level: str, said: str) -> None:
    answer = pipeline.set_level(stage, level)
    assert answer.returncode == 2
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
