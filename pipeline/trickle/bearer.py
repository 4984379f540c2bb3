"""What a bearer token is (RFC 6750), and where one comes from that must not stand in a file.

Both ends of a channel need it; who may do what with one is `tokens`' business.
"""

import os
import re

AUTHORIZATION = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*) *", re.I)
"""The header's value, with the token as its group."""

_VARIABLE = re.compile(r"\$\{(\w+)\}")


class TokenMissing(Exception):
    """A token is to come from an environment variable that is not set, or holds something that is no token."""


def reveal(token: str) -> str:
    """The token itself, where `${NAME}` stands for an environment variable. Raises TokenMissing."""
    named = _VARIABLE.fullmatch(token)
    if named is None:
        return token
    secret = os.environ.get(named[1], "")
    if not AUTHORIZATION.fullmatch(f"bearer {secret}"):
        raise TokenMissing(f"{token}: set this environment variable to a token: letters, digits, - . _ ~ + / and =")
    return secret
