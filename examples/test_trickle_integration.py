"""Checks that a program for trickle-app, ComfyUI and a livepipe node can run here: `python
examples/test_trickle_integration.py`. Five checks, a line each; the exit code is 1 if one of them fails.

It needs no node, no GPU and no trickle-app: where that is not installed, livepipe's own classes stand in for it.
"""

import asyncio
import importlib
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("TricklePublisher", "TrickleSubscriber", "VideoFrame", "VideoOutput")
PACKAGES = ("trickle_app", "pytrickle")
PATIENCE_S = 10.0
INSTALL_HINT = "pip install git+https://github.com/eliteprox/py-trickle.git"

WORKFLOW = {
    "3": {
        "inputs": {
            "seed": 42,
            "steps": 20,
            "cfg": 8.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
        "class_type": "KSampler",
        "_meta": {"title": "KSampler"},
    },
    "4": {
        "inputs": {"ckpt_name": "sd_xl_base_1.0.safetensors"},
        "class_type": "CheckpointLoaderSimple",
        "_meta": {"title": "Load Checkpoint"},
    },
    "5": {
        "inputs": {"width": 512, "height": 512, "batch_size": 1},
        "class_type": "EmptyLatentImage",
        "_meta": {"title": "Empty Latent Image"},
    },
    "6": {
        "inputs": {"text": "beautiful landscape, high quality", "clip": ["4", 1]},
        "class_type": "CLIPTextEncode",
        "_meta": {"title": "Positive Prompt"},
    },
    "7": {
        "inputs": {"text": "low quality, blurry", "clip": ["4", 1]},
        "class_type": "CLIPTextEncode",
        "_meta": {"title": "Negative Prompt"},
    },
}

STREAM = {
    "subscribe_url": "http://localhost:5678/input",
    "publish_url": "http://localhost:5679/output",
    "control_url": "http://localhost:9876/control",
    "events_url": "http://localhost:9876/events",
    "width": 512,
    "height": 512,
    "prompts": [WORKFLOW],
}


class CheckFailed(Exception):
    """What is wrong, and how to mend it, in one line."""


async def main() -> int:
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    package: list[ModuleType] = []
    checks: tuple[tuple[str, Callable[[], Awaitable[str]]], ...] = (
        ("Package imports", lambda: package_imports(package)),
        ("VideoFrame creation", lambda: video_frame(package)),
        ("TricklePublisher/TrickleSubscriber classes", lambda: publisher_and_subscriber(package)),
        ("ComfyUI workflow structure", workflow_structure),
        ("Stream configuration", stream_configuration),
    )
    failed = 0
    for name, check in checks:
        try:
            print(f"✅ {name}: {await check()}", flush=True)
        except CheckFailed as problem:
            failed += 1
            print(f"❌ {name}: {problem}", flush=True)
    if failed:
        print(f"{failed} of {len(checks)} checks failed", file=sys.stderr)
    return 1 if failed else 0


async def package_imports(found: list[ModuleType]) -> str:
    """`from trickle_app import ...` gives what a program needs: the package's, or our own."""
    package, whose = _find_package()
    missing = [name for name in NAMES if name not in vars(package)]
    if missing:
        raise CheckFailed(f"{package.__name__} has no {', '.join(missing)}; install another version: {INSTALL_HINT}")
    found.append(package)
    return f"{', '.join(NAMES)} ({whose})"


async def video_frame(found: list[ModuleType]) -> str:
    """A tensor goes through VideoFrame and VideoOutput unchanged, with its time."""
    package = _needed(found)
    import torch

    picture = torch.rand((1, 512, 512, 3))
    frame = package.VideoFrame.from_tensor(picture, 1234)
    output = package.VideoOutput(frame.replace_tensor(1 - picture), "processed-frame-id")
    if not torch.equal(output.tensor, 1 - picture) or output.timestamp != 1234:
        raise CheckFailed("what was put into a VideoFrame does not come out of its VideoOutput")
    return f"{tuple(picture.shape)} {picture.dtype} at {frame.timestamp}"


async def publisher_and_subscriber(found: list[ModuleType]) -> str:
    """A segment that is published into a relay of our own comes out of it again."""
    package = _needed(found)
    serve = _livepipe("pipeline.trickle.server").serve
    relay = await serve("127.0.0.1", 0)
    relay.trickle.create_channel("check", "video/mp4")
    # The package leaves requests of its own unfinished when it is closed, and asyncio would tell of each.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    url = f"http://127.0.0.1:{relay.port}/check"
    sent = os.urandom(100_000)
    try:
        async with asyncio.timeout(PATIENCE_S):
            received = await _send_and_receive(package, url, sent)
    except TimeoutError:
        raise CheckFailed(f"a segment was not transferred within {PATIENCE_S:g} s") from None
    finally:
        await relay.close()
    if received != sent:
        raise CheckFailed(f"{len(sent)} bytes were published, and {len(received)} others came back")
    return f"{len(received)} bytes published and read back"


async def workflow_structure() -> str:
    """The workflow can be made to run on a stream."""
    workflow = _livepipe("pipeline.processors.comfyui.workflow")
    try:
        live = workflow.convert(workflow.check_shape(WORKFLOW))
    except workflow.WorkflowError as error:
        raise CheckFailed(str(error)) from error
    return f"{len(WORKFLOW)} nodes, the result is taken by node {live.output}"


async def stream_configuration() -> str:
    """A node with configs/api.yaml would take the configuration."""
    status, requests = _livepipe("pipeline.status"), _livepipe("pipeline.stream_requests")
    topology_file = _livepipe("pipeline.topology_file")
    try:
        topology = topology_file.load_topology(ROOT / "configs/api.yaml")
    except (OSError, topology_file.TopologyFileError) as error:
        raise CheckFailed(str(error)) from error
    params = {"prompts": STREAM["prompts"]}
    spec = status.StreamSpec("check", params=params, **{key: STREAM[key] for key in STREAM if key != "prompts"})
    problem = requests.problem_of(spec, topology)
    if problem:
        raise CheckFailed(problem)
    return f"{spec.subscribe_url} -> {spec.publish_url}, {spec.width}x{spec.height}"


def _find_package() -> tuple[ModuleType, str]:
    for name in PACKAGES:
        try:
            package = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise CheckFailed(f"{name} is there, and {error.name}, which it needs, is not") from error
            continue
        except ImportError as error:
            raise CheckFailed(f"{name} cannot be imported: {error}") from error
        return package, f"{name} {getattr(package, '__version__', '')}".strip()
    try:
        trickle_frames = importlib.import_module("pipeline.processors.trickle_frames")
    except ImportError as error:
        raise CheckFailed(
            f"neither trickle-app nor livepipe with torch is installed ({error}); run: {INSTALL_HINT}"
        ) from error
    trickle_frames.install()
    return importlib.import_module(PACKAGES[0]), "livepipe's own, as trickle-app is not installed"


def _needed(found: list[ModuleType]) -> Any:
    if not found:
        raise CheckFailed("not checked, as the package cannot be imported")
    return found[0]


def _livepipe(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CheckFailed(f"livepipe is not installed ({error}); run: pip install -e '{ROOT}[torch]'") from error


async def _send_and_receive(package: Any, url: str, sent: bytes) -> bytes:
    async with package.TrickleSubscriber(url, 0) as subscriber, package.TricklePublisher(url, "video/mp4") as publisher:
        if hasattr(subscriber, "subscribe"):  # Not in every version of the package.
            await subscriber.subscribe()
        async with await publisher.next() as writer:
            await writer.write(sent)
        segment = await subscriber.next()
        if segment is None:
            raise CheckFailed("the subscriber sees the end of the stream, where there is a segment")
        received = b""
        while len(received) < len(sent) and (data := await segment.read()):
            received += data
        await segment.close()
    return received


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
