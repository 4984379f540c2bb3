"""Log lines as events: a stable name, then `key=value` fields. It formats; the standard library delivers."""

import json
import logging
import sys
from collections.abc import Callable
from typing import Any

_LOGGER = logging.getLogger("livepipe")


def configure(level: str = "INFO", write: Callable[[str], None] | None = None) -> None:
    """Send this process's events to `write`, by default standard error, one line each.

    Raises ValueError for a level that the standard library does not know.
    """
    handler = logging.StreamHandler(sys.stderr) if write is None else _Writer(write)
    stamp = "%(asctime)s.%(msecs)03d " if write else ""  # What a worker prints is stamped by the launcher.
    handler.setFormatter(logging.Formatter(f"{stamp}%(levelname)s %(message)s", "%H:%M:%S"))
    _LOGGER.handlers[:] = [handler]
    _LOGGER.propagate = False
    _LOGGER.setLevel(level)


def info(event: str, **fields: Any) -> None:
    _LOGGER.info(_line(event, fields))


def warning(event: str, **fields: Any) -> None:
    _LOGGER.warning(_line(event, fields))


def error(event: str, **fields: Any) -> None:
    _LOGGER.error(_line(event, fields))


def line(text: str) -> None:
    """A line that somebody else has worded: what a worker printed."""
    _LOGGER.info(text)


class _Writer(logging.Handler):
    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record))


def _line(event: str, fields: dict[str, Any]) -> str:
    return " ".join([event, *(f"{key}={_value(value)}" for key, value in fields.items())])


def _value(value: Any) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    if text and not any(character in text for character in ' "\\') and text.isprintable():
        return text
    return json.dumps(text, ensure_ascii=False)
