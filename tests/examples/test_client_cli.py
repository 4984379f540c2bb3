"""`python examples/comfystream_trickle_client.py` against a node's HTTP service."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pipeline.media.pattern import write_pattern
from pipeline.trickle.server import serve
from tests.client.node import Node

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples/comfystream_trickle_client.py"


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node()
    await node.start()
    yield node
    await node.close()


async def run(node: Node | int, *arguments: str) -> tuple[int | None, str, str]:
    """Exit code, output and errors."""
    port = node if isinstance(node, int) else node.port
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        SCRIPT,
        *arguments,
        "--host=127.0.0.1",
        f"--port={port}",
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    return process.returncode, out.decode(), errors.decode()


async def test_a_stream_is_started_changed_looked_at_and_stopped(node: Node, tmp_path: Path) -> None:
    workflow = tmp_path / "workflow.json"
    workflow.write_text('{"1": {"class_type": "LoadTensor", "inputs": {}}}')
    code, out, errors = await run(node, "start", "--workflow", str(workflow), "--params", '{"strength": 2}')
    assert (code, errors) == (0, "")
    assert json.loads(out)["status"] == "success"
    assert node.last[2]["params"]["prompts"] == {"1": {"class_type": "LoadTensor", "inputs": {}}}
    assert node.last[2]["params"]["strength"] == 2
    code, out, errors = await run(node, "update", "--params", '{"strength": 3}')
    assert (code, errors) == (0, "")
    assert node.last == ("POST", "/stream/params", {"strength": 3})
    code, out, errors = await run(node, "status")
    assert json.loads(out)["current_stream"]["stream_id"] == "s-1"
    code, out, errors = await run(node, "stop", "--stream", "s-1")
    assert (code, errors) == (0, "")
    assert node.running is None


async def test_a_video_is_played_into_the_stream(node: Node, tmp_path: Path) -> None:
    clip = tmp_path / "clip.ts"
    write_pattern(clip, 64, 64, 30, 0.5)
    relay = await serve("127.0.0.1", 0)
    try:
        ports = ("--media-ports", str(relay.port), str(relay.port))
        code, out, errors = await run(node, "start", "--publish", str(clip), *ports)
    finally:
        await relay.close()
    assert (code, errors) == (0, "")
    assert f"playing {clip} into http://127.0.0.1:{relay.port}/input" in out
    assert '"segments": 1' in out


async def test_a_server_that_is_not_running_is_one_line_with_the_command_that_shows_it(node: Node) -> None:
    await node.close()
    code, out, errors = await run(node.port, "status")
    assert (code, out) == (1, "")
    assert errors.splitlines() == [
        f"http://127.0.0.1:{node.port} cannot be reached (Connection refused); is the server running? "
        f"Check with: curl http://127.0.0.1:{node.port}/health"
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (("start", "--width", "511"), 1, "511 is no size of a frame; allowed: even numbers"),
        (("stop",), 1, "status 400: No active stream to stop"),
        (("update",), 2, "update: nothing to change"),
        (("update", "--params", "{"), 2, "--params: no JSON"),
        (("update", "--params", "[]"), 2, "--params: needed is a JSON object"),
        (("start", "--workflow", "no-such.json"), 2, "no-such.json: No such file"),
        (("status", "--token", "${NO_SUCH_TOKEN}"), 2, "NO_SUCH_TOKEN"),
        (("status", "--ca", "no-such.pem"), 2, "no-such.pem"),
    ],
)
async def test_a_mistake_is_one_line(node: Node, arguments: tuple[str, ...], code: int, line: str) -> None:
    given, out, errors = await run(node, *arguments)
    assert (given, out) == (code, "")
    assert line in errors
    assert len(errors.splitlines()) == 1
