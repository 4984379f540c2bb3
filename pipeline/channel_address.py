"""From what a topology says of a channel to what a client needs: the URL, the token itself, and whom to trust.

It is for the worker that uses the channel: no other process sees the token.
"""

import ssl

import msgspec

from pipeline.addresses import JudgeAddress, judge_address
from pipeline.boot import WorkerBoot
from pipeline.topology import channel_user, is_on_relay
from pipeline.trickle.bearer import TokenMissing, reveal
from pipeline.trickle.errors import AccessDenied
from pipeline.trickle.tls import TlsFileError, client_context
from pipeline.worker import WorkerRefused


class ChannelAddress(msgspec.Struct, frozen=True):
    """Where a channel is, and what opens it. `ssl_context` None: the system's authorities are trusted. `token_key` is
    the topology's key that the token comes from, for messages. `judge` says which addresses the URL may not lead to;
    None: whoever wrote it may name any."""

    url: str
    token: str | None = None
    ssl_context: ssl.SSLContext | None = None
    token_key: str = "token"
    judge: JudgeAddress | None = None

    def __repr__(self) -> str:
        """Without the token: it must not get into a log."""
        return f"ChannelAddress({self.url!r})"

    def refusal(self, denied: AccessDenied) -> WorkerRefused:
        """What to end the stage with when the server will not have it: it would not the next time either."""
        shown = "another token" if self.token else "a token, such as ${NAME} for an environment variable"
        return WorkerRefused(f"{self.token_key}: {denied}; give {shown}, that this server takes")


def channel_address(channel: str, boot: WorkerBoot) -> ChannelAddress:
    """`channel` is one that the stage of `boot` names. Raises WorkerRefused for a token or a file that is not there."""
    if is_on_relay(channel):
        key = "relay.publish_tokens.0"
        return ChannelAddress(f"{boot.relay_url}/{channel}", _reveal(boot.relay_token, key), None, key)
    found = channel_user(boot.section, boot.spec)
    assert found is not None
    path, user = found
    try:
        context = client_context(user.tls.ca, user.tls.certificate, user.tls.key) if user.tls else None
    except TlsFileError as error:
        raise WorkerRefused(f"{path}.tls.{error.role}: {error}") from error
    judge = None if boot.allow_private is None else judge_address(private=boot.allow_private)
    return ChannelAddress(channel, _reveal(user.token, f"{path}.token"), context, f"{path}.token", judge)


def _reveal(token: str | None, key: str) -> str | None:
    try:
        return reveal(token) if token is not None else None
    except TokenMissing as error:
        raise WorkerRefused(f"{key}: {error}") from error
