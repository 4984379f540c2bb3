"""`python examples/test_trickle_integration.py`, as a user runs it."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples/test_trickle_integration.py"
PEER = ROOT / ".venv-pytrickle/bin/python"
HINT = "pip install git+https://github.com/eliteprox/py-trickle.git"
CHECKS = (
    "Package imports",
    "VideoFrame creation",
    "TricklePublisher/TrickleSubscriber classes",
    "ComfyUI workflow structure",
    "Stream configuration",
)


def run(*before_on_path: Path, python: Path | str = sys.executable) -> tuple[int, list[str]]:
    """Its exit code and its lines; `before_on_path` are folders in which Python looks for modules first."""
    path = os.pathsep.join(map(str, (*before_on_path, ROOT)))
    done = subprocess.run(
        [python, SCRIPT],
        cwd="/",
        env={**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def write_module(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder


def test_all_is_well_without_the_package() -> None:
    code, lines = run()
    assert code == 0, lines
    assert [line.partition(": ")[0] for line in lines] == [f"✅ {check}" for check in CHECKS]
    assert "livepipe's own" in lines[0]


def test_all_is_well_with_the_package(tmp_path: Path) -> None:
    if not PEER.exists():
        pytest.skip("pytrickle's environment is not there: make test sets it up")
    # The relay's only dependency that the environment of the package has not.
    h11 = importlib.util.find_spec("h11")
    assert h11 is not None
    assert h11.submodule_search_locations
    (tmp_path / "h11").symlink_to(h11.submodule_search_locations[0])
    code, lines = run(tmp_path, python=PEER)
    assert code == 0, lines
    assert [line.partition(": ")[0] for line in lines] == [f"✅ {check}" for check in CHECKS]
    assert "(pytrickle 0.1.6)" in lines[0]


def test_where_nothing_can_be_imported_the_command_that_installs_it_is_shown(tmp_path: Path) -> None:
    write_module(tmp_path, "torch.py", "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    code, lines = run(tmp_path)
    assert code == 1
    assert lines[0].startswith("❌ Package imports: neither trickle-app nor livepipe with torch is installed")
    assert lines[0].endswith(f"run: {HINT}")
    assert not any("Traceback" in line for line in lines)
    assert any(line == "3 of 5 checks failed" for line in lines)


@pytest.mark.parametrize(
    ("package", "line"),
    [
        (
            "VideoFrame = VideoOutput = object",
            "❌ Package imports: trickle_app has no TricklePublisher, TrickleSubscriber",
        ),
        (
            "import no_such_module",
            "❌ Package imports: trickle_app is there, and no_such_module, which it needs, is not",
        ),
        (
            "from pipeline.processors.trickle_frames import *\n"
            "from pipeline.processors.trickle_channels import *\n"
            "class VideoOutput(VideoOutput):\n"
            "    timestamp = 0\n",
            "❌ VideoFrame creation: what was put into a VideoFrame does not come out",
        ),
        (
            "from pipeline.processors.trickle_frames import *\n"
            "from pipeline.processors.trickle_channels import *\n"
            "from pipeline.trickle.segment_writer import SegmentWriter as writer\n"
            "write = writer.write\n"
            "async def scrambled(self, data):\n"
            "    await write(self, data[::-1])\n"
            "writer.write = scrambled\n",
            "❌ TricklePublisher/TrickleSubscriber classes: 100000 bytes were published, and 100000 others came back",
        ),
    ],
)
def test_a_package_that_does_not_do_its_work_is_told(tmp_path: Path, package: str, line: str) -> None:
    code, lines = run(write_module(tmp_path, "trickle_app.py", package))
    assert code == 1
    assert any(each.startswith(line) for each in lines), lines
    assert not any("Traceback" in each for each in lines)


def test_it_is_a_program_and_no_test_of_the_suite() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", str(SCRIPT)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no tests collected" in done.stdout
