"""The launcher's log: where lines go and in what form, which levels are wanted of whom. What a line says is `log`'s."""

import datetime
import logging
import logging.handlers
import sys
from collections.abc import Callable
from typing import Any, Self

import msgspec

from pipeline import log
from pipeline.topology_logs import Form, LogFile, Logs

LAUNCHER = "launcher"
"""Whose events are those that name no stage."""


class LogFileError(Exception):
    """The log's file cannot be written. One line for the user."""


class LauncherLog:
    """Takes the place of whatever this process logged to, from `with` on."""

    def __init__(self, logs: Logs, pipeline: str, write: Callable[[str], None]) -> None:
        """`write` takes lines for standard error. Raises LogFileError."""
        self._wanted = _Wanted(logs)
        self._file = _open_file(logs.file) if logs.file is not None else None
        screen = log.LineHandler(write)
        screen.setFormatter(_formatter(logs.format, pipeline))
        self._handlers: list[logging.Handler] = [screen]
        if self._file is not None and logs.file is not None:
            self._file.setFormatter(_formatter(logs.file.format, pipeline))
            self._handlers.append(self._file)
        for handler in self._handlers:
            handler.addFilter(self._wanted)

    def adopt(self, logs: Logs) -> None:
        """From now on these levels are wanted."""
        self._wanted.logs = logs

    def __enter__(self) -> Self:
        log.deliver_to(*self._handlers)
        log.set_level("DEBUG")  # The filter knows whose it is.
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            log.deliver_to(self._handlers[0])


class ForMachines(logging.Formatter):
    """One JSON object a line: `time` (ISO 8601, UTC), `level`, `pipeline`, `stage`, `event`, and the event's fields."""

    def __init__(self, pipeline: str) -> None:
        super().__init__()
        self._pipeline = pipeline

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        fields = log.fields_of(record)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "pipeline": self._pipeline,
            "stage": fields.get("stage", LAUNCHER),
            "event": getattr(record, "event", record.getMessage()),
        }
        line |= {key: value for key, value in fields.items() if key not in line}
        return msgspec.json.encode(line, enc_hook=str).decode()


class _Wanted(logging.Filter):
    """Lets through what is not below its stage's level."""

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self.logs = logs

    def filter(self, record: logging.LogRecord) -> bool:
        level = self.logs.level_of(str(log.fields_of(record).get("stage", LAUNCHER)))
        return record.levelno >= logging.getLevelNamesMapping()[level]


class _RotatedFile(logging.handlers.RotatingFileHandler):
    """A full disk is told once, and again after it had room in between; it stops nothing."""

    def __init__(self, file: LogFile) -> None:
        super().__init__(file.path, maxBytes=file.max_bytes, backupCount=file.keep, encoding="utf-8")
        self._told = self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        self._failed = False
        super().emit(record)
        if not self._failed:
            self._told = False

    def handleError(self, record: logging.LogRecord) -> None:
        self._failed = True
        if not self._told:
            self._told = True
            log.error("log_file_failed", stage=LAUNCHER, path=self.baseFilename, reason=str(sys.exc_info()[1]))


def _open_file(file: LogFile) -> logging.Handler:
    try:
        return _RotatedFile(file)
    except OSError as error:
        raise LogFileError(f"logs.file.path: cannot write {file.path}: {error.strerror}") from error


def _formatter(form: Form, pipeline: str) -> logging.Formatter:
    return ForMachines(pipeline) if form == "json" else log.ForPeople(stamped=True)
