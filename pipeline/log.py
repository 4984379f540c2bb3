"""Log lines as events: a stable name, then fields. It formats; the standard library delivers, and `launcher_log` says
where to."""

import json
import logging
import sys
from collections.abc import Callable
from typing import Any, Literal, cast

import msgspec

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

OUTPUT = "output"
"""The event of a line that somebody else has worded, its field `line`: what a worker printed."""

RECORD_MARK = b"\x1e"
"""In front of a Record in what a worker prints: the record separator of RFC 7464, which no text contains."""

MAX_TEXT = 8000
"""Characters of a field, so that a Record is one line that the launcher reads whole."""

_LOGGER = logging.getLogger("livepipe")


class Record(msgspec.Struct, frozen=True):
    """An event as it comes from a worker's log to the launcher."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]
    event: str
    fields: dict[str, str | int | float | bool | None]


def configure(level: str = "INFO", write: Callable[[str], None] | None = None) -> None:
    """Send this process's events to `write`, by default standard error, one line each, for people.

    Raises ValueError for a level that the standard library does not know.
    """
    handler = logging.StreamHandler(sys.stderr) if write is None else LineHandler(write)
    handler.setFormatter(ForPeople(stamped=write is not None))
    deliver_to(handler)
    set_level(level)


def configure_worker(level: str) -> None:
    """Send this process's events to standard error as Records, for the launcher to read."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_ForLauncher())
    deliver_to(handler)
    set_level(level)


def deliver_to(*handlers: logging.Handler) -> None:
    """Send this process's events there, and nowhere else."""
    _LOGGER.handlers[:] = handlers
    _LOGGER.propagate = False


def set_level(level: str) -> None:
    """What is below it is not written from now on. Raises ValueError for a level that is none."""
    _LOGGER.setLevel(level)


def is_wanted(level: str) -> bool:
    """Whether an event of this level is written."""
    return _LOGGER.isEnabledFor(logging.getLevelNamesMapping()[level])


def debug(event: str, /, **fields: Any) -> None:
    _tell(logging.DEBUG, event, fields)


def info(event: str, /, **fields: Any) -> None:
    _tell(logging.INFO, event, fields)


def warning(event: str, /, **fields: Any) -> None:
    _tell(logging.WARNING, event, fields)


def error(event: str, /, **fields: Any) -> None:
    _tell(logging.ERROR, event, fields)


def tell(level: str, event: str, fields: dict[str, Any]) -> None:
    """An event that somebody else has named."""
    _tell(logging.getLevelNamesMapping()[level.upper()], event, fields)


def worded(event: str, fields: dict[str, Any]) -> str:
    """An event as one line for people."""
    if event == OUTPUT:
        return f"stage={fields['stage']} | {fields['line']}"
    return " ".join([event, *(f"{key}={_value(value)}" for key, value in fields.items())])


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Those of the event that `record` carries."""
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


class ForPeople(logging.Formatter):
    """`LEVEL event key=value`, with the time of day in front if `stamped`."""

    def __init__(self, *, stamped: bool) -> None:
        stamp = "%(asctime)s.%(msecs)03d " if stamped else ""
        super().__init__(f"{stamp}%(levelname)s %(message)s", "%H:%M:%S")


class LineHandler(logging.Handler):
    """Gives each line to a function."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record))


class _ForLauncher(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {key: _plain(value) for key, value in fields_of(record).items()}
        event = Record(cast(Any, record.levelname), getattr(record, "event", record.getMessage()), fields)
        return RECORD_MARK.decode() + msgspec.json.encode(event).decode()


def _tell(level: int, event: str, fields: dict[str, Any]) -> None:
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, worded(event, fields), extra={"event": event, "fields": fields})


def _plain(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, int | float | bool):
        return value
    text = str(value)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."


def _value(value: Any) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    if text and not any(character in text for character in ' "\\') and text.isprintable():
        return text
    return json.dumps(text, ensure_ascii=False)
