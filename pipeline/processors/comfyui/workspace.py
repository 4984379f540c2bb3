"""Where a ComfyUI checkout is. Needs no torch: the launcher looks too."""

from pathlib import Path

from pipeline.processors.errors import ProcessorError

_NEEDED = ("execution.py", "nodes.py", "comfy/cli_args.py")


def find_workspace(workspace: str) -> Path:
    """The folder of a checkout. Raises ProcessorError when it is none."""
    root = Path(workspace).expanduser().resolve()
    missing = [name for name in _NEEDED if not (root / name).is_file()]
    if missing:
        raise ProcessorError(f"{workspace}: no ComfyUI checkout, it has no {', '.join(missing)}")
    return root
