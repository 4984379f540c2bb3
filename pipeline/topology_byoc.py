"""The section `api.byoc`: what a Livepeer orchestrator is told of this node. Telling it is `byoc`'s."""

from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from pipeline.topology_values import Section

_INT64 = (1 << 63) - 1

Price = Annotated[int, msgspec.Meta(ge=0, le=_INT64)]


class Byoc(Section, kw_only=True, frozen=True):
    """Registration with an orchestrator. It sends streams to `capability_url`, at most `capacity` at a time, for
    `price_per_unit` / `price_scaling` `currency` a unit (a second of a stream). `orch_secret` is its -orchSecret;
    `worker_token` the bearer token that it shows to the node. Either may be ${NAME}, an environment variable. `ca` is a
    PEM file: whom to trust for an https URL in the place of the system's authorities."""

    orchestrator_url: str
    orch_secret: str
    capability_name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    capability_url: str
    description: str = ""
    capacity: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    price_per_unit: Price = 0
    price_scaling: Annotated[int, msgspec.Meta(ge=1, le=_INT64)] = 1
    currency: str = "wei"
    worker_token: str | None = None
    ca: str | None = None

    def __post_init__(self) -> None:
        for key in ("orchestrator_url", "capability_url"):
            _check_url(key, getattr(self, key))
        name = self.capability_name
        if not name.isprintable() or name != name.strip():
            raise ValueError(f"capability_name: {name!r}; allowed: printable characters, no spaces around")
        if "," in name:
            # Gateways list capabilities with commas between them (job_orchestrator.go, GetJobToken).
            raise ValueError(f"capability_name: {name!r} has a comma; allowed: any other character")

    def __repr__(self) -> str:
        """Without the secrets: they must not get into a log."""
        return f"Byoc({self.capability_name!r} at {self.capability_url!r}, to {self.orchestrator_url!r})"


def _check_url(key: str, url: str) -> None:
    parts = urlsplit(url)
    if parts.username is not None:
        raise ValueError(f"{key}: a user in the URL is sent to nobody; leave it out")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.port == 0:
        raise ValueError(f"{key}: {url!r} is no URL of a server; allowed: http[s]://host[:port]")
