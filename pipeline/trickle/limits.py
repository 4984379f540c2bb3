"""What is said to a client that asks for more than the relay's limits allow. They are counted where the things are."""

from pipeline.topology_sections import RelayLimits
from pipeline.trickle.reply import Refusal

__all__ = ["RelayLimits", "over"]


def over(key: str, limit: str, status: int) -> Refusal:
    """A refusal that says which limit was met, and the key to change it by. Nothing follows it on the connection."""
    return Refusal(status, f"{limit} (relay.limits.{key})\n", last=True)
