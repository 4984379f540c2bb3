"""What a worker's interpreter can import: this program, what the user has named, and the current folder; but nothing
that merely lies beside this program, such as the other packages of the environment that it is installed in."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""Where this program was imported from: the source tree, or site-packages."""

PACKAGES = ("pipeline", "workers")

LINKS = "import"
"""Folder of a running pipeline's directory."""


def import_path(run_dir: Path, root: Path = ROOT) -> str:
    """PYTHONPATH of a worker. It is started with -P, so the current folder, where processors may be, comes last: a
    folder named `workers` there is not taken for ours."""
    folders = [str(_without_neighbours(root, run_dir)), os.environ.get("PYTHONPATH"), os.getcwd()]
    return os.pathsep.join(filter(None, folders))


def _without_neighbours(root: Path, run_dir: Path) -> Path:
    """An interpreter of the stage's own (`python:`) has to get its av, numpy and torch from its own environment. So
    where this program is installed among such packages, a folder of links to it alone."""
    if not any(root.glob("livepipe-*.dist-info")):
        return root
    links = run_dir / LINKS
    links.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        link, target = links / package, root / package
        if not (link.is_symlink() and link.readlink() == target):  # Else a killed launcher of this place left it.
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    return links
