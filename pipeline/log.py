"""Log lines as events: a stable name, then `key=value` fields. It formats; the standard library delivers."""

import logging
import sys
from typing import Any

_LOGGER = logging.getLogger("livepipe")


def configure(level: str = "INFO") -> None:
    """Send events of this process to standard error, one line each.

    Raises ValueError for a level that the standard library does not know.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(message)s", "%H:%M:%S"))
    _LOGGER.handlers[:] = [handler]
    _LOGGER.propagate = False
    _LOGGER.setLevel(level)


def info(event: str, **fields: Any) -> None:
    _LOGGER.info(_line(event, fields))


def warning(event: str, **fields: Any) -> None:
    _LOGGER.warning(_line(event, fields))


def error(event: str, **fields: Any) -> None:
    _LOGGER.error(_line(event, fields))


def debug(event: str, **fields: Any) -> None:
    if _LOGGER.isEnabledFor(logging.DEBUG):
        _LOGGER.debug(_line(event, fields))


def _line(event: str, fields: dict[str, Any]) -> str:
    return " ".join([event, *(f"{key}={_value(value)}" for key, value in fields.items())])


def _value(value: Any) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return f'"{text}"' if " " in text else text
