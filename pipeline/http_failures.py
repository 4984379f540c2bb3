"""Why an HTTP connection of aiohttp's could not be made, in words for people."""

import os
import socket

from aiohttp import ClientConnectorError
from aiohttp.client_exceptions import ClientConnectorCertificateError, ClientConnectorSSLError

UNTRUSTED = (ClientConnectorCertificateError, ClientConnectorSSLError)
"""To be caught before ClientConnectorError, of which one is a kind."""


def why_unreachable(error: ClientConnectorError) -> str:
    """In the system's words: asyncio puts its own in their place."""
    cause = error.os_error
    if isinstance(cause, socket.gaierror) or not cause.errno:
        return cause.strerror or str(cause)
    return os.strerror(cause.errno)


def why_untrusted(error: Exception) -> str:
    """What is wrong with the certificate, or with the handshake. `error` is one of UNTRUSTED."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    return str(getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or cause)
