"""The clients by name: where each is written, and which interpreter has it."""

import sys
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]


class Entry(msgspec.Struct, frozen=True):
    module: str
    python: str = sys.executable

    @property
    def installed(self) -> bool:
        return Path(self.python).exists()


OURS, PYTRICKLE = "livepipe", "pytrickle"

CLIENTS = {
    OURS: Entry("livepipe_client"),
    PYTRICKLE: Entry("pytrickle_client", str(ROOT / ".venv-pytrickle" / "bin" / "python")),
}
