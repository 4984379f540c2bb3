"""Certificates for tests, made by OpenSSL: each is its own authority, good for 127.0.0.1 and for a day."""

import subprocess
from pathlib import Path
from typing import NamedTuple


class Identity(NamedTuple):
    """PEM files."""

    certificate: str
    key: str


def make_identity(folder: Path, name: str) -> Identity:
    made = Identity(str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
        f"-subj /CN={name} -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run([*command.split(), "-keyout", made.key, "-out", made.certificate], check=True, capture_output=True)
    return made
