"""Where the launcher's log goes: to a screen and into a real file, for people and for machines."""

import datetime
import json
import logging
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline import log
from pipeline.launcher_log import LauncherLog, LogFileError
from pipeline.topology_logs import Logs


@pytest.fixture
def screen() -> Iterator[list[str]]:
    written: list[str] = []
    yield written
    logging.getLogger("livepipe").handlers.clear()


def logs(**keys: Any) -> Logs:
    return msgspec.convert(keys, Logs)


def test_people_see_what_they_saw_before(screen: list[str]) -> None:
    with LauncherLog(Logs(), "demo", screen.append):
        log.tell("warning", "late", {"stage": "egress", "seq": 4})
        log.info(log.OUTPUT, stage="inference", line="loading a model")
        log.debug("unseen", stage="egress")
    assert [line.split(" ", 1)[1] for line in screen] == [
        "WARNING late stage=egress seq=4",
        "INFO stage=inference | loading a model",
    ]


def test_a_machine_reads_one_object_a_line(screen: list[str]) -> None:
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    with LauncherLog(logs(format="json"), "demo", screen.append):
        log.tell("error", "died", {"stage": "decode", "how": "SIGKILL", "last_lines": "Traceback:\nValueError", "n": 1})
        log.info(log.OUTPUT, stage="inference", line='a "line"')
        log.info("draining", signal="SIGTERM", reason=ValueError("odd"), level="taken", share=float("nan"))
    died, line, draining = map(json.loads, screen)
    moment = datetime.datetime.fromisoformat(died.pop("time"))
    assert moment.tzinfo is not None
    assert moment.utcoffset() == datetime.timedelta(0)
    assert moment >= before
    assert list(died) == ["level", "pipeline", "stage", "event", "how", "last_lines", "n"]
    assert died["last_lines"] == "Traceback:\nValueError"
    assert (line["stage"], line["event"], line["line"]) == ("inference", "output", 'a "line"')
    assert (draining["stage"], draining["level"], draining["reason"]) == ("launcher", "INFO", "odd")


def test_each_stage_has_a_level_and_it_can_change(screen: list[str]) -> None:
    wanted = logs(level="WARNING", stages={"decode": "DEBUG", "launcher": "ERROR"})
    with LauncherLog(wanted, "demo", screen.append) as written:
        for stage in ("decode", "egress", "launcher"):
            for level in log.LEVELS:
                log.tell(level, f"{stage}-{level}", {"stage": stage})
        log.warning("of the launcher, as what names no stage")
        written.adopt(logs(stages={"decode": "ERROR"}))
        log.info("now", stage="egress")
        log.info("unseen", stage="decode")
    assert [line.split()[2] for line in screen] == [
        *(f"decode-{level}" for level in log.LEVELS),
        "egress-WARNING",
        "egress-ERROR",
        "launcher-ERROR",
        "now",
    ]


def test_a_file_takes_everything_and_is_rotated(screen: list[str], tmp_path: Path) -> None:
    path = tmp_path / "livepipe.log"
    with LauncherLog(logs(file={"path": str(path), "max_bytes": 1024, "keep": 2}), "demo", screen.append):
        for number in range(100):
            log.info("counted", stage="decode", number=number)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["livepipe.log", "livepipe.log.1", "livepipe.log.2"]
    assert all(file.stat().st_size <= 1024 for file in files)
    kept = [json.loads(line)["number"] for file in reversed(files) for line in file.read_text().splitlines()]
    assert kept == list(range(100 - len(kept), 100))
    assert len(kept) > 10
    assert screen[0].endswith("INFO counted stage=decode number=0")
    log.info("after its end")
    assert "after its end" not in path.read_text()


def test_a_file_may_be_for_people(screen: list[str], tmp_path: Path) -> None:
    path = tmp_path / "livepipe.log"
    with LauncherLog(logs(format="json", file={"path": str(path), "format": "console"}), "demo", screen.append):
        log.info("ready", stage="decode")
    assert path.read_text().endswith("INFO ready stage=decode\n")
    assert screen[0].startswith('{"time":')


def test_a_file_that_cannot_be_is_one_line_for_the_user(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "livepipe.log"
    with pytest.raises(LogFileError, match=rf"^logs\.file\.path: cannot write {path}: No such file or directory$"):
        LauncherLog(logs(file={"path": str(path)}), "demo", print)


def test_a_file_that_cannot_be_written_any_more_is_told_once_and_goes_on_when_it_can(
    screen: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "livepipe.log"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)  # Python ignores SIGXFSZ: a write beyond it is EFBIG.
    with LauncherLog(logs(file={"path": str(path)}), "demo", screen.append):
        log.info("first", stage="decode")
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path), hard))
        try:
            log.info("second", stage="decode")
            log.info("third", stage="decode")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        log.info("fourth", stage="decode")
    assert [line.split()[2] for line in screen] == ["first", "second", "log_file_failed", "third", "fourth"]
    assert "File too large" in "".join(screen)
    assert json.loads(path.read_text().splitlines()[-1])["event"] == "fourth"
    assert capsys.readouterr() == ("", ""), "no traceback"
