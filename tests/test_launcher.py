import subprocess
import sys
from pathlib import Path

import pytest

import launcher
from pipeline import __version__
from pipeline.topology_file import load_topology
from pipeline.trace_view import OFF
from tests.api.small_launcher import SmallLauncher

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
DEMO = str(ROOT / "configs/demo.yaml")


def run(capsys, *arguments):
    code = launcher.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_the_checked_topology_is_a_topology_that_says_the_same(capsys, tmp_path, config):
    code, out, err = run(capsys, "check", config)
    assert (code, err) == (0, "")
    (tmp_path / "resolved.yaml").write_text(out)
    assert load_topology(tmp_path / "resolved.yaml") == load_topology(config)


def test_a_check_shows_defaults_and_overrides(capsys):
    _, out, _ = run(capsys, "check", DEMO, "--set", "relay.port=0", "--set", "frame={width: 64}")
    assert "  port: 0\n" in out
    assert "  width: 64\n  height: 512\n" in out


def test_a_mistake_is_one_line_and_exit_code_2(capsys):
    code, out, err = run(capsys, "check", DEMO, "--set", "frame.width=511")
    assert (code, out) == (2, "")
    assert err.startswith(f"{DEMO}:")
    assert "frame.width" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("setting", ["relay.port", "=3", "=", "relay.port=[1, 2", "name.first=x", "frame.width.x=1"])
def test_a_setting_that_makes_no_sense_is_repeated_in_the_answer(capsys, setting):
    code, out, err = run(capsys, "check", DEMO, "--set", setting)
    assert (code, out) == (2, "")
    assert err.startswith(f"--set {setting.split('=')[0]}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "check", "graph"])
def test_a_topology_that_is_not_there_is_named(capsys, command):
    code, out, err = run(capsys, command, "nowhere.yaml")
    assert (code, out) == (2, "")
    assert err.startswith("nowhere.yaml: No such file or directory")
    assert err.count("\n") == 1


def test_a_log_file_that_cannot_be_written_is_named(capsys, monkeypatch, short_dir):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir))
    free = ("--set", "relay.port=0", "--set", "api.port=0")
    code, out, err = run(capsys, "run", DEMO, *free, "--set", "logs.file={path: nowhere/a.log}")
    assert (code, out) == (2, "")
    assert err == "logs.file.path: cannot write nowhere/a.log: No such file or directory\n"


def test_an_input_that_is_not_there_is_named(capsys):
    assert run(capsys, "run", DEMO, "--input", "nowhere.ts") == (2, "", "--input nowhere.ts: no such file\n")


def test_a_pipeline_that_traces_nothing_says_how_to_change_that(capsys, short_dir, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir))
    folder = short_dir / "livepipe/demo"
    folder.mkdir(parents=True)
    with SmallLauncher(f"ipc://{folder}/control"):
        assert run(capsys, "trace", "demo") == (2, "", f"{OFF}\n")


def test_a_recording_is_not_written_over(capsys, tmp_path):
    (tmp_path / "a.rec").write_text("precious")
    said = f"{tmp_path}/a.rec: is there already; give another name, or remove it\n"
    assert run(capsys, "run", DEMO, "--record", tmp_path / "a.rec") == (2, "", f"--record {said}")


def test_what_is_no_recording_is_named(capsys):
    code, out, err = run(capsys, "replay", DEMO)
    assert (code, out) == (2, "")
    assert err.startswith(f"{DEMO}: is no recording; give a file that launcher.py record")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["check"], ["run", DEMO, "--fast"], ["record", "--output", "a", "--seconds", "0"]]
)
def test_wrong_usage_is_exit_code_2_and_shows_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        launcher.main(arguments)
    assert caught.value.code == 2
    assert "usage: launcher.py" in capsys.readouterr().err


def test_the_version_is_said(capsys):
    with pytest.raises(SystemExit) as caught:
        launcher.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"livepipe {__version__}\n"


def test_a_shipped_topology_is_found_from_any_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "check", "demo") == run(capsys, "check", DEMO)


def test_the_graph_joins_every_stage_by_its_links(capsys):
    code, out, _ = run(capsys, "graph", DEMO)
    lines = [line.strip() for line in out.splitlines()]
    assert (code, lines[0]) == (0, "flowchart LR")
    assert "ingress -- encoded: encoded --> decode" in lines
    assert "decode -- raw: 6 slots, latest --> inference" in lines
    assert "inference -- styled: 6 slots, block --> egress" in lines
    assert 'inference["inference<br/>inference"]' in lines


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_the_graph_has_one_node_a_stage(capsys, config):
    _, out, _ = run(capsys, "graph", config)
    for name in load_topology(config).stages:
        assert sum(line.startswith(f"  {name}[") for line in out.splitlines()) == 1


def test_the_launcher_does_no_work_that_it_could_die_of():
    """It holds the memory and outlives everybody: no torch, no FFmpeg, no HTTP in its process."""
    code = "import sys, launcher; print({'torch', 'av', 'aiohttp', 'numpy'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"
