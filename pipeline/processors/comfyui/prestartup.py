"""The scripts that custom nodes want to have run before the engine is imported, as ComfyUI's main program runs them."""

import importlib.util
import logging
from collections.abc import Iterable
from pathlib import Path

SCRIPT = "prestartup_script.py"


def run_prestartup_scripts(folders: Iterable[str | Path]) -> None:
    """Run that of every package in `folders`, those of custom nodes, in the order of their names. One that raises is
    reported and the others go on: its node may do without, or says so when it is loaded."""
    for folder in map(Path, folders):
        packages = sorted(folder.iterdir()) if folder.is_dir() else []
        for package in packages:
            script = package / SCRIPT
            if package.name.endswith(".disabled") or not script.is_file():
                continue
            try:
                _run(script)
            except Exception as error:  # noqa: BLE001 - whatever the author's own code raises
                logging.getLogger(__name__).error("%s: %s: %s", script, type(error).__name__, error)


def _run(script: Path) -> None:
    spec = importlib.util.spec_from_file_location(str(script.with_suffix("")), script)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
