"""The topologies that come with the program, each to be asked for by its name: `run demo`. In the source tree they are
the files of `configs/`; in an installed package they are copies of those."""

from pathlib import Path

CONFIGS = Path(__file__).resolve().parent / "configs"


def shipped_names() -> list[str]:
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def find_topology(asked: Path) -> Path:
    """The shipped topology of this name; or `asked` as it is, if there is such a file, or it can only be a path."""
    if asked.exists() or str(asked) not in shipped_names():
        return asked
    return CONFIGS / f"{asked}.yaml"
