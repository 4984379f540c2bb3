"""TLS from files: what a client trusts and shows, and what a server shows and asks for. Every mistake names its file.

It knows nothing of connections; the contexts are for `http1` and `server`.
"""

import ssl
from pathlib import Path


class TlsFileError(Exception):
    """A certificate or key cannot be used. `role` is `ca`, `certificate` or `key`; the text names the file, and what is
    wrong with it."""

    def __init__(self, role: str, problem: str) -> None:
        super().__init__(problem)
        self.role = role


def client_context(ca: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext:
    """Trusts the certificates in `ca` and no others, or those of the system; shows `certificate` to a server that asks
    for one. All are PEM files; `certificate` and `key` come together. Raises TlsFileError."""
    if ca is not None:
        _check_readable("ca", ca)
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as error:
        raise TlsFileError("ca", f"{ca}: holds no certificate in PEM form") from error
    _show(context, certificate, key)
    return context


def server_context(certificate: str, key: str, client_ca: str | None) -> ssl.SSLContext:
    """Shows `certificate`; with `client_ca`, clients must show one that is signed by it. Raises TlsFileError."""
    if client_ca is not None:
        _check_readable("client_ca", client_ca)
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
    except ssl.SSLError as error:
        raise TlsFileError("client_ca", f"{client_ca}: holds no certificate in PEM form") from error
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    _show(context, certificate, key)
    return context


def _show(context: ssl.SSLContext, certificate: str | None, key: str | None) -> None:
    if certificate is None:
        return
    _check_readable("certificate", certificate)
    if key is None:
        raise TlsFileError("key", f"the key that belongs to {certificate} is missing")
    _check_readable("key", key)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except _NeedsPassword as error:
        raise TlsFileError("key", f"{key}: is encrypted; allowed: a key without a password") from error
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsFileError("key", f"{key}: is not the key of {certificate}") from error
        role, file = ("certificate", certificate) if not _holds(certificate, "CERTIFICATE") else ("key", key)
        raise TlsFileError(role, f"{file}: holds no {'private ' * (role == 'key')}{role} in PEM form") from error


class _NeedsPassword(Exception):
    pass


def _no_password() -> str:
    # Without it OpenSSL asks on the terminal, and the process waits there.
    raise _NeedsPassword


def _check_readable(role: str, path: str) -> None:
    try:
        Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no path at all, such as one with a NUL.
        reason = error.strerror if isinstance(error, OSError) else error
        raise TlsFileError(role, f"{path}: {reason}") from error


def _holds(path: str, label: str) -> bool:
    return f"-----BEGIN {label}-----".encode() in Path(path).read_bytes()
