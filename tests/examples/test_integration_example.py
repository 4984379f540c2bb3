"""`python examples/trickle_integration_example.py`, as a user runs it."""

import re
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples/trickle_integration_example.py"
PATIENCE_S = 110.0


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two that are free."""
    with ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(2)]
    return found[0], found[1]


def run(name: str, ports: tuple[int, int], *options: str) -> subprocess.CompletedProcess[str]:
    relay, api = ports
    overrides = (
        f"name={name}",
        f"relay.port={relay}",
        "relay.media_ports=[]",
        f"api.port={api}",
        "frame={width: 256, height: 256}",
    )
    return subprocess.run(
        [sys.executable, SCRIPT, *(part for each in overrides for part in ("--set", each)), *options],
        cwd="/",
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_clip_goes_through_a_node_that_the_example_starts(ports: tuple[int, int]) -> None:
    done = run("t-example", ports, "--seconds", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"node: http://127.0.0.1:{ports[1]}, started" in done.stdout
    assert "first picture: float32 (1, 256, 256, 3)" in done.stdout
    counts = re.search(r"published 60 pictures, got (\d+) back", done.stdout)
    assert counts is not None
    assert 30 <= int(counts[1]) <= 60


def test_without_a_node_the_command_that_shows_it_is_named(ports: tuple[int, int]) -> None:
    done = run("t-example-none", ports, "--no-start")
    assert done.returncode == 1
    assert f"is the server running? Check with: curl http://127.0.0.1:{ports[1]}/health" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_media_port_that_is_in_use_is_named_with_the_key_to_change(ports: tuple[int, int]) -> None:
    with socket.create_server(("127.0.0.1", ports[0])):
        done = run("t-example-port", ports)
    assert done.returncode == 1
    assert f"relay.port: cannot listen on 127.0.0.1 port {ports[0]}: Address already in use" in done.stderr
    assert "if a port is in use, change relay.port, relay.media_ports or api.port" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_program_on_the_services_port_is_told_from_a_node(ports: tuple[int, int]) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(ports[1]), "--bind", "127.0.0.1"],
        cwd=ROOT / "docs",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PYTHONUNBUFFERED": "1"},
        text=True,
    )
    try:
        assert server.stdout is not None
        server.stdout.readline()  # It says when it listens.
        done = run("t-example-other", ports)
    finally:
        server.kill()
        server.wait()
    assert done.returncode == 1
    assert "/health: status 404" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistake_in_an_override_is_told_before_anything_starts(ports: tuple[int, int]) -> None:
    done = run("t-example-set", ports, "--set", "relay.prot=1")
    assert done.returncode == 2
    assert "prot" in done.stderr
    assert "Traceback" not in done.stderr
