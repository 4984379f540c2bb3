"""Tells systemd how the pipeline is, by sd_notify(3). Without NOTIFY_SOCKET in the environment it does nothing.

The launcher's main loop calls it, so that the watchdog of the unit watches that very loop.
"""

import contextlib
import math
import os
import socket
import time


class ServiceManager:
    """One datagram socket to whoever started the launcher as a service."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_s = _watchdog_seconds()
        self._ready = False
        self._status = ""
        self._fed = -math.inf

    def tell(self, state: str, summary: str) -> None:
        """How the pipeline is just now. The service counts as started once `state` is one in which frames can flow."""
        if self._socket is None:
            return
        lines = []
        if not self._ready and state in ("OK", "DEGRADED"):
            self._ready = True
            lines.append("READY=1")
        status = f"{state}: {summary}"
        if status != self._status:
            self._status = status
            lines.append(f"STATUS={status}")
        if lines:
            self._send("\n".join(lines))

    def feed_watchdog(self) -> None:
        """To be called from the loop that must not stand still: at least twice as often as the unit's WatchdogSec."""
        now = time.monotonic()
        if self._watchdog_s and now - self._fed >= self._watchdog_s / 4:
            self._fed = now
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """Followed by `reloaded`. The time stamp is what Type=notify-reload asks for."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def reloaded(self) -> None:
        """A service that has not started yet does so when frames can flow, and not by being reloaded."""
        if self._ready:
            self._send("READY=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _send(self, message: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # Nobody reads: then nobody wants to know.
                self._socket.sendto(message.encode(), self._address)


def _watchdog_seconds() -> float:
    """The unit's WatchdogSec if it is meant for this process; 0: there is none."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
    except ValueError:
        return 0.0
