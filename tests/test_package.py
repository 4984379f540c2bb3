"""What a user installs: the wheel in an environment of its own, used from a folder that is not the source tree. It
takes minutes, most of them pip's; run by `make package`."""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from pipeline import __version__
from pipeline.media.pattern import write_pattern

ROOT = Path(__file__).resolve().parents[1]
FRAMES = 60
CLEAN = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
"""An environment in which the source tree is not importable: pip would take the program for installed."""

pytestmark = [pytest.mark.package, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the wheel, made of the source distribution, and that."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True)
    return folder


@pytest.fixture(scope="module")
def environment(built, tmp_path_factory):
    """bin/ of an environment with the wheel."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (wheel,) = built.glob("*.whl")
    asked = f"livepipe[torch] @ {wheel.as_uri()}"
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", asked]
    subprocess.run(pip, env=CLEAN, check=True)
    return folder / "bin"


@pytest.fixture
def run_dir():
    """Short enough for the address of a socket."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def livepipe(environment, tmp_path, run_dir, monkeypatch):
    """livepipe(*arguments) -> the finished command, run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    env = CLEAN | {"XDG_RUNTIME_DIR": str(run_dir)}

    def run(*arguments):
        command = [environment / "livepipe", *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    return run


def data_files(names):
    """Of a package, those that are no Python."""
    return {name for name in names if name.startswith("pipeline/") and not name.endswith(("/", ".py", ".pyc"))}


def test_the_wheel_holds_every_file_of_the_packages(built):
    (wheel,) = built.glob("*.whl")
    tracked = subprocess.run(["git", "ls-files", "pipeline", "configs"], cwd=ROOT, capture_output=True, text=True)
    expected = {name.replace("configs/", "pipeline/configs/", 1) for name in tracked.stdout.split()}
    assert data_files(zipfile.ZipFile(wheel).namelist()) == data_files(expected - {"pipeline/configs"})


def test_the_source_distribution_holds_what_the_tests_need(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {"Makefile", "constraints.txt", "configs/demo.yaml", "tests/test_package.py", "docs/api.md"} <= names


def test_nothing_that_it_needs_is_missing(environment):
    subprocess.run([environment / "python", "-m", "pip", "check"], env=CLEAN, check=True)


def test_the_command_says_its_version(livepipe):
    assert livepipe("--version").stdout == f"livepipe {__version__}\n"


def test_a_shipped_topology_is_found_by_its_name(livepipe):
    assert livepipe("check", "demo").stdout.startswith("name: demo\n")


def test_a_mistake_is_answered_by_the_command_and_not_by_a_traceback(livepipe):
    wrong = livepipe("check", "dmeo")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert livepipe("fly").stderr.startswith("usage: livepipe ")


def test_a_file_runs_through_the_installed_workers_with_a_processor_of_the_current_folder(livepipe, tmp_path, run_dir):
    write_pattern(tmp_path / "in.ts", 320, 240, 30, FRAMES // 30)
    (tmp_path / "my_ops.py").write_text("def swap(image):\n    return image.flip(-1)\n")
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers/__init__.py").write_text("raise SystemExit('the wrong workers')")
    processor = "stages.inference.processor.callable=my_ops:swap"
    done = livepipe("run", "file", "--input", "in.ts", "--output", "out.mp4", "--set", processor)
    assert done.returncode == 0, done.stderr
    assert f"decoded {FRAMES} = delivered {FRAMES} +" in done.stdout
    assert (tmp_path / "out.mp4").stat().st_size
    assert not any((run_dir / "livepipe").iterdir())
