"""Bearer tokens (RFC 6750): who may write channels, and who may read them. No tokens, no questions."""

import hashlib
import hmac
from collections.abc import Iterable

from pipeline.trickle.bearer import AUTHORIZATION, reveal
from pipeline.trickle.reply import Refusal

CHALLENGE = 'Bearer realm="trickle"'


class Tokens:
    """Those who may write may read as well: a publisher has to ask for the next number."""

    def __init__(self, publish: Iterable[str] = (), subscribe: Iterable[str] = ()) -> None:
        """Raises TokenMissing."""
        self._publish = [_digest(reveal(token)) for token in publish]
        self._subscribe = [_digest(reveal(token)) for token in subscribe]

    def check(self, authorization: str, *, writes: bool) -> None:
        """Raises Refusal if a request with this header may not be done."""
        if not (self._publish if writes else self._subscribe):
            return
        given = AUTHORIZATION.fullmatch(authorization)
        if given is None:
            raise _refusal(401, "a bearer token is needed here\n")
        digest = _digest(given[1])
        may_write, may_read = _is_among(digest, self._publish), _is_among(digest, self._subscribe)
        if may_write or (may_read and not writes):
            return
        if may_read:
            raise _refusal(403, "this token is for reading only\n", ', error="insufficient_scope"')
        raise _refusal(401, "this token is not known here\n", ', error="invalid_token"')


def _refusal(status: int, text: str, error: str = "") -> Refusal:
    return Refusal(status, text, [("WWW-Authenticate", CHALLENGE + error)], last=True)


def _digest(token: str) -> bytes:
    # Of one length, whatever the token's: compare_digest takes as long as its arguments are.
    return hashlib.sha256(token.encode()).digest()


def _is_among(digest: bytes, known: list[bytes]) -> bool:
    """Looks at all of them, so that the time tells nothing."""
    found = False
    for each in known:
        found |= hmac.compare_digest(digest, each)
    return found
