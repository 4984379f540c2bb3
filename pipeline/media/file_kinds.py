"""The names of the video files that egress writes. Light: the launcher reads it too, and imports no FFmpeg."""

from pathlib import Path

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".ts": "mpegts"}
"""Containers as libavformat names them, by the suffix that asks for them."""


def container_of(path: str | Path) -> str:
    """Raises ValueError for a suffix that is not known."""
    suffix = Path(path).suffix.lower()
    if suffix not in CONTAINERS:
        raise ValueError(
            f"cannot write {str(path)!r}: no container is named {suffix or 'without a suffix'}; "
            f"allowed: {', '.join(CONTAINERS)}"
        )
    return CONTAINERS[suffix]


def growing_file(path: str | Path) -> Path:
    """Where a file is written until it is whole: beside it. MPEG-TS can be played at any moment, and grows in place."""
    path = Path(path)
    return path if container_of(path) == "mpegts" else path.with_name(path.name + ".part.ts")
