"""A contestant's side: frames are put through when the parent asks, and their times printed as one line of JSON."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

SIZE = 512
WORKFLOW: dict[str, dict[str, Any]] = {
    "1": {"class_type": "LoadImage", "inputs": {}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
}
UNCHANGED: dict[str, dict[str, Any]] = {
    "1": WORKFLOW["1"],
    "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}

Frame: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
Update: TypeAlias = Callable[[dict[str, Any]], Any]

PACE_S = 1 / 30


def serve(frame: Frame, update: Update | None) -> None:
    """Until standard input ends: `steady N` times N frames, `change N` puts another workflow in before each N frames
    at 30 fps and times how long the picture stood still."""
    torch.set_num_threads(1)
    image = torch.rand((1, SIZE, SIZE, 3), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        made = frame(image)
        assert torch.equal(made, 1 - image), "the workflow does not do what it says"
        _say("ready")
        for line in sys.stdin:
            job, count = line.split()
            _say(_steady(frame, image, int(count)) if job == "steady" else _change(frame, update, image, int(count)))


def _steady(frame: Frame, image: torch.Tensor, count: int) -> list[float]:
    """Milliseconds of each frame."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        frame(image)
        times.append((time.perf_counter() - start) * 1000)
    return times


def _change(frame: Frame, update: Update | None, image: torch.Tensor, count: int) -> dict[str, list[float]]:
    """Of each change: milliseconds from the order to the first new picture, the number of frames until it, and the
    longest time between two pictures around it."""
    assert update is not None
    figures: dict[str, list[float]] = {"first_ms": [], "frames": [], "gap_ms": []}
    for turn in range(count):
        wanted, expected = (UNCHANGED, image) if turn % 2 == 0 else (WORKFLOW, 1 - image)
        due = last = time.perf_counter()
        gap, first, frames = 0.0, 0.0, 0
        for step in range(15):
            due += PACE_S
            time.sleep(max(0.0, due - time.perf_counter()))
            if step == 5:
                ordered = time.perf_counter()
                update({"prompt": wanted})
            made = frame(image)
            now = time.perf_counter()
            gap, last = max(gap, now - last) if step else 0.0, now
            if step >= 5 and not first:
                frames += 1
                if torch.equal(made, expected):
                    first = now - ordered
        assert first, "the change never came into force"
        figures["first_ms"].append(first * 1000)
        figures["frames"].append(frames)
        figures["gap_ms"].append(gap * 1000)
    return figures


def _say(value: Any) -> None:
    print("@" + json.dumps(value), flush=True)
