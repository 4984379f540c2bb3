"""What aiohttp has to say of requests that are no HTTP, one event each: strangers must not fill the log with traces."""

import logging

from pipeline import log

SHOWN_CHARACTERS = 200


class HttpLog(logging.Filter):
    """On aiohttp's own logger: tells, and lets nothing through."""

    def filter(self, record: logging.LogRecord) -> bool:
        reason = record.exc_info[1] if record.exc_info else None
        said = " ".join(str(reason or record.getMessage()).split())
        log.warning("api.no_http", reason=said[:SHOWN_CHARACTERS])
        return False


def http_logger() -> logging.Logger:
    """For `web.AppRunner`. What goes wrong in answering a request is `problems`' matter, and does not come here."""
    logger = logging.getLogger("livepipe.http")
    if not logger.filters:
        logger.addFilter(HttpLog())
    return logger
