"""A whole stream through a node, from outside: a clip is made and played live into the node's input, and the pictures
that come out of it are read back and counted.

It uses the node that runs with configs/api.yaml, or starts one and stops it again. `--workflow FILE` gives the node a
ComfyUI workflow, `--params JSON` parameters of its processor.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import yaml

    from pipeline.client import ChannelUnavailable, ClientError, ComfyStreamTrickleClient, StreamRefused
    from pipeline.client import ServerUnreachable as Unreachable
    from pipeline.media.pattern import write_pattern
    from pipeline.topology import Topology
    from pipeline.topology_file import TopologyFileError, load_topology
except ImportError as missing:
    sys.exit(f"livepipe is not installed ({missing}); run: pip install -e {Path(__file__).resolve().parent.parent}")

ROOT = Path(__file__).resolve().parent.parent
FPS = 30
MIN_DELIVERED = 0.5
"""Less of the clip than this in the result means that something is wrong, however slow the machine."""

NODE_STOP_S = 30.0
LOOK_S = 0.2
AFTER_THE_CLIP_S = 30.0
"""How long the result may come after the end of the clip."""


class NodeFailed(Exception):
    """The node could not be started; one line."""


def main() -> int:
    options = _parser().parse_args()
    try:
        overrides = dict(_override(text) for text in options.set)
        topology = load_topology(options.topology, overrides)
        workflow = json.loads(options.workflow.read_text()) if options.workflow else None
        params = json.loads(options.params) if options.params else None
    except (TopologyFileError, OSError, ValueError, yaml.YAMLError) as mistake:
        print(mistake, file=sys.stderr)
        return 2
    try:
        return asyncio.run(_run(options, topology, workflow, params))
    except (ClientError, NodeFailed) as error:
        print(error, file=sys.stderr)
        return 1


async def _run(options: argparse.Namespace, topology: Topology, workflow: Any, params: dict[str, Any] | None) -> int:
    if topology.api is None or topology.relay is None:
        raise NodeFailed(f"{options.topology}: api and relay are needed for this example")
    relay, width, height = topology.relay, topology.frame.width, topology.frame.height
    media_ports = (relay.port, next(iter(relay.media_ports), relay.port))
    async with (
        ComfyStreamTrickleClient(topology.api.host, topology.api.port, media_ports=media_ports) as client,
        _node(client, options),
    ):
        client.events_url = client.subscribe_url.replace("/input", "/events")
        print(f"stream: {client.subscribe_url} -> {client.publish_url}, {width}x{height}", flush=True)
        await client.start_stream(workflow, width, height, params=params)
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder) / "clip.ts"
            published = await asyncio.to_thread(write_pattern, clip, 1280, 720, FPS, options.seconds)
            received, events = await _play(client, clip)
        with suppress(StreamRefused):  # It may have ended by itself, with its source.
            await client.stop_stream()
    print(f"published {published} pictures, got {received} back, and {events} events")
    if received < published * MIN_DELIVERED:
        print(f"CHECK FAILED: only {received} of {published} pictures came out", file=sys.stderr)
        return 1
    return 0


async def _play(client: ComfyStreamTrickleClient, clip: Path) -> tuple[int, int]:
    """Play the clip, and count the pictures and the events that come meanwhile, and until the result ends."""
    reading = asyncio.create_task(_count_frames(client))
    listening = asyncio.create_task(_count_events(client))
    try:
        await client.publish_file(clip)
        await asyncio.wait([reading], timeout=AFTER_THE_CLIP_S)
        if not reading.done():
            await client.stop_stream()
        await asyncio.wait([reading, listening], timeout=LOOK_S)
    finally:
        listening.cancel()
        reading.cancel()
        results = await asyncio.gather(reading, listening, return_exceptions=True)
    frames, events = results
    if isinstance(frames, BaseException):
        raise frames
    return frames, events if isinstance(events, int) else 0


async def _count_frames(client: ComfyStreamTrickleClient) -> int:
    frames = 0
    async for frame in client.frames(start_seq=0):
        if frames == 0:
            print(f"first picture: {frame.image.dtype} {frame.image.shape} at {frame.seconds:.3f} s", flush=True)
        frames += 1
    return frames


async def _count_events(client: ComfyStreamTrickleClient) -> int:
    events = 0
    with suppress(ChannelUnavailable, asyncio.CancelledError):
        async for event in client.events():
            print(f"event: {json.dumps(event)}", flush=True)
            events += 1
    return events


@asynccontextmanager
async def _node(client: ComfyStreamTrickleClient, options: argparse.Namespace) -> AsyncIterator[None]:
    """The node that runs already, or one that lives as long as the block."""
    try:
        await client.health()
    except Unreachable:
        if options.no_start:
            raise
    else:
        await client.wait_until_ready()
        print(f"node: {client.base_url}, which runs already", flush=True)
        yield
        return
    overrides = [argument for text in options.set for argument in ("--set", text)]
    node = await asyncio.create_subprocess_exec(
        sys.executable, "launcher.py", "run", str(options.topology.resolve()), *overrides, cwd=ROOT
    )
    try:
        await _until_ready(client, node)
        print(f"node: {client.base_url}, started", flush=True)
        yield
    finally:
        if node.returncode is None:
            node.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(node.wait(), NODE_STOP_S)
            except TimeoutError:
                node.kill()
                await node.wait()


async def _until_ready(client: ComfyStreamTrickleClient, node: asyncio.subprocess.Process) -> None:
    ready, ended = asyncio.create_task(client.wait_until_ready()), asyncio.create_task(node.wait())
    try:
        await asyncio.wait((ready, ended), return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            raise NodeFailed(
                f"the node ended with exit code {ended.result()}, see above; if a port is in use, change relay.port, "
                "relay.media_ports or api.port in the topology, or with --set"
            )
        await ready
    finally:
        ready.cancel()
        ended.cancel()


def _override(text: str) -> tuple[str, Any]:
    path, _, value = text.partition("=")
    return path, yaml.safe_load(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", type=Path, default=ROOT / "configs/api.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="as launcher.py run takes it")
    parser.add_argument("--no-start", action="store_true", help="use a node that runs, or fail")
    parser.add_argument("--seconds", type=int, default=6, help="length of the clip")
    parser.add_argument("--workflow", type=Path, metavar="FILE", help="a ComfyUI workflow in the API format")
    parser.add_argument("--params", metavar="JSON", help="parameters of the processor")
    return parser


if __name__ == "__main__":
    sys.exit(main())
