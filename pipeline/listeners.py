"""The sockets that services listen on. The launcher opens them and lends them out, so that a service that is restarted
refuses nobody."""

import socket
from collections.abc import Iterator

from pipeline.topology import Topology

LISTENING = ("relay", "api")


class PortInUse(Exception):
    """Somebody listens there already."""


class Listeners:
    def __init__(self, topology: Topology) -> None:
        """Raises PortInUse, naming the port and its key."""
        sockets = dict(_open_all(topology))
        self.relay_tls = sockets.pop("relay.tls.port", None)
        """The port of the relay's that speaks TLS."""
        self.services = {key: sockets.pop(key) for key in LISTENING if key in sockets}
        self.media = list(sockets.values())
        """Further ports of the relay's."""
        self._api_scheme = "https" if topology.api is not None and topology.api.tls is not None else "http"

    def url(self, service: str) -> str | None:
        """Of a service, with its real port; None if there is none."""
        if service not in self.services:
            return None
        host, port = self.services[service].getsockname()[:2]
        scheme = self._api_scheme if service == "api" else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def close(self) -> None:
        for listener in (*self.services.values(), *self.media):
            listener.close()
        if self.relay_tls is not None:
            self.relay_tls.close()


def _open_all(topology: Topology) -> Iterator[tuple[str, socket.socket]]:
    for key in LISTENING:
        service = getattr(topology, key)
        if service is not None:
            yield key, _listen(f"{key}.port", service.host, service.port)
    if topology.relay is not None:
        for number, port in enumerate(topology.relay.media_ports):
            key = f"relay.media_ports.{number}"
            yield key, _listen(key, topology.relay.host, port)
        if (tls := topology.relay.tls) is not None:
            yield "relay.tls.port", _listen("relay.tls.port", tls.host, tls.port)


def _listen(key: str, host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=1024, reuse_port=False)
    except OSError as error:
        raise PortInUse(
            f"{key}: cannot listen on {host} port {port}: {error.strerror}; set {key} to a free port, or 0 for any"
        ) from error
