"""The import path that a worker gets, tried with a real interpreter."""

import subprocess
import sys

import pytest

from pipeline.import_path import ROOT, import_path


@pytest.fixture
def site_packages(tmp_path):
    """An environment's packages: this program as a wheel installs it, and another package beside it."""
    folder = tmp_path / "site-packages"
    for name in ("pipeline", "workers", "livepipe-0.1.0.dist-info", "neighbour"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
    (folder / "workers/who.py").write_text("print('ours')")
    return folder


@pytest.fixture
def run(tmp_path, site_packages, monkeypatch):
    """run(code, *flags) -> what an interpreter prints that has the import path of a worker."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def run_python(*arguments):
        environment = {"PYTHONPATH": import_path(tmp_path / "run", site_packages)}
        command = [sys.executable, "-P", "-S", *arguments]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        return said.stdout.strip() or said.stderr.strip().splitlines()[-1]

    return run_python


def test_the_source_tree_is_on_the_path_as_it_is(tmp_path):
    assert import_path(tmp_path).split(":")[0] == str(ROOT)
    assert not any(tmp_path.iterdir())


def test_what_lies_beside_an_installed_program_is_not_to_be_imported(run):
    assert run("-m", "workers.who") == "ours"
    assert run("-c", "import neighbour") == "ModuleNotFoundError: No module named 'neighbour'"


def test_a_processor_in_the_current_folder_can_be_imported_and_hides_nothing_of_ours(tmp_path, run):
    (tmp_path / "elsewhere/my_ops.py").write_text("print('mine')")
    (tmp_path / "elsewhere/workers").mkdir()
    (tmp_path / "elsewhere/workers/__init__.py").write_text("raise SystemExit('the wrong workers')")
    assert run("-c", "import my_ops") == "mine"
    assert run("-m", "workers.who") == "ours"


def test_what_the_user_has_on_the_path_stays_on_it(tmp_path, run, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site-packages"))
    assert run("-c", "import neighbour; print('found')") == "found"


def test_links_that_a_killed_launcher_of_another_place_left_are_replaced(tmp_path, run):
    (tmp_path / "run/import").mkdir(parents=True)
    (tmp_path / "run/import/workers").symlink_to(tmp_path / "gone")
    assert run("-m", "workers.who") == "ours"
