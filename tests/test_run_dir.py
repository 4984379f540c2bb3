import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys

import pytest

from pipeline.run_dir import AlreadyRunning, NotRunning, RunDir, control_endpoint, run_dir, running

HOLD = """
import sys
from pipeline.run_dir import RunDir
with RunDir(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def runtime_dir(short_dir, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir))
    return short_dir


@pytest.fixture
def other():
    """Another launcher, which holds the pipeline `demo`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, "demo"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_sockets_lie_in_the_runtime_directory(runtime_dir):
    with RunDir("demo") as held:
        assert held.path == runtime_dir / "livepipe" / "demo"
        assert held.endpoint("control") == f"ipc://{runtime_dir}/livepipe/demo/control"


def test_without_a_runtime_directory_each_user_has_one(short_dir, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(short_dir))
    assert run_dir("demo") == short_dir / f"livepipe-{os.getuid()}" / "demo"


def test_nobody_else_can_look_in():
    with RunDir("demo") as held:
        assert stat.S_IMODE(held.path.stat().st_mode) == 0o700


def test_nothing_is_left_behind():
    before = os.listdir("/proc/self/fd")
    with RunDir("demo") as held:
        (held.path / "control").touch()
    assert not held.path.exists()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_two_pipelines_of_one_name_are_refused_with_the_others_pid(other):
    before = os.listdir("/proc/self/fd")
    with pytest.raises(AlreadyRunning, match=rf"'demo' is running already, pid {other.pid}; .*another `name:`"):
        RunDir("demo")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_pipelines_of_different_names_do_not_mind_each_other(other):
    with RunDir("demo2") as held:
        assert held.path.is_dir()


def test_what_a_killed_launcher_left_behind_is_taken_over(other):
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert run_dir("demo").exists()
    with RunDir("demo") as held:
        assert (held.path / "lock").read_text() == str(os.getpid())


def test_a_refused_launcher_takes_nothing_away(other):
    with pytest.raises(AlreadyRunning):
        RunDir("demo")
    with pytest.raises(AlreadyRunning, match=str(other.pid)):
        RunDir("demo")


def test_a_lock_whose_directory_was_just_removed_is_not_mistaken_for_one(monkeypatch):
    """The other launcher ends between our opening of its lock and our asking for it."""
    other = RunDir("demo")
    flock = fcntl.flock

    def overtaken(fd, operation):
        monkeypatch.setattr(fcntl, "flock", flock)
        other.close()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    with RunDir("demo") as held:
        assert (held.path / "lock").read_text() == str(os.getpid())
        with pytest.raises(AlreadyRunning):
            RunDir("demo")


def test_a_name_that_nobody_runs_is_not_running(other):
    with pytest.raises(NotRunning, match="no pipeline of this user is running"):
        control_endpoint("demo")


def test_what_is_listened_to_is_running(runtime_dir):
    with RunDir("demo") as held, socket.socket(socket.AF_UNIX) as launcher:
        launcher.bind(str(held.path / "control"))
        assert running() == []
        launcher.listen()
        assert running() == ["demo"]
        assert control_endpoint("demo") == f"ipc://{runtime_dir}/livepipe/demo/control"
        assert control_endpoint() == control_endpoint("demo")
        with pytest.raises(NotRunning, match="no pipeline named 'other' is running; running: demo"):
            control_endpoint("other")


def test_of_several_that_run_one_has_to_be_named():
    with RunDir("a") as a, RunDir("b") as b, socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        for launcher, held in ((one, a), (two, b)):
            launcher.bind(str(held.path / "control"))
            launcher.listen()
        with pytest.raises(NotRunning, match="several pipelines are running, say which: a, b"):
            control_endpoint()
        assert control_endpoint("b") == b.endpoint("control")


def test_a_directory_too_long_for_sockets_is_an_error_that_says_how_to_mend_it(runtime_dir, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_dir / ("long" * 20)))
    with pytest.raises(OSError, match="set XDG_RUNTIME_DIR to a shorter directory"):
        RunDir("demo")
