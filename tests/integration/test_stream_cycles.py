"""Streams started and stopped again and again: everything that they had comes back, by number."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.running import PATIENCE_S, SPINE
from tests.integration.test_streams import Node, running

QUICK_CYCLES = 4
CHAOS_CYCLES = 200
KILL_CYCLES = 100
WARM_UP_CYCLES = 20
MAX_GROWTH_BYTES = 4096
"""A cycle, of resident memory: less than a page is no leak that a node would notice in a year of streams."""


class Held:
    """What the launcher and inference hold between two streams."""

    def __init__(self, node: Node) -> None:
        self._launcher = psutil.Process(node.pipeline.process.pid)
        self._inference = psutil.Process(node.pid_of("inference"))

    def count(self) -> dict[str, int]:
        """Descriptors of both, processes below the launcher, and threads."""
        return {
            "launcher's descriptors": self._launcher.num_fds(),
            "launcher's children": len(self._launcher.children(recursive=True)),
            "launcher's threads": self._launcher.num_threads(),
            "inference's descriptors": self._inference.num_fds(),
            "inference's threads": self._inference.num_threads(),
        }

    def is_the_same(self, node: Node) -> bool:
        """Whether inference is the process that it was."""
        return self._inference.pid == node.pid_of("inference")

    def resident(self) -> tuple[int, int]:
        """Bytes of the launcher and of inference."""
        return self._launcher.memory_info().rss, self._inference.memory_info().rss

    def wait_until_as(self, before: dict[str, int]) -> None:
        """ZeroMQ closes the connection of a process that has left a moment later."""
        deadline = time.monotonic() + PATIENCE_S
        while (now := self.count()) != before:
            assert time.monotonic() < deadline, {key: (before[key], now[key]) for key in now if now[key] != before[key]}
            time.sleep(0.05)


@pytest.fixture
def node(tmp_path: Path, long_source: Path) -> Iterator[Node]:
    with running(tmp_path, long_source) as node:
        node.pipeline.wait_for("active stage=inference")
        yield node


def cycle(node: Node, number: int) -> None:
    """One stream, of which at least one frame is sent."""
    stream = f"s{number}"
    with node.camera(f"{stream}-in"):
        assert node.start(stream, params={"other": number}).ok
        node.wait_until_online(stream)
        assert node.stop(stream).ok
    assert node.status().streams[0].state == "ENDED"


def test_a_few_streams_leave_not_one_descriptor_thread_or_process_behind(node: Node) -> None:
    cycle(node, 0)
    held = Held(node)
    before = held.count()
    for number in range(1, QUICK_CYCLES + 1):
        cycle(node, number)
        node.check_quiet()
    held.wait_until_as(before)
    assert held.is_the_same(node)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_hundreds_of_streams_leave_nothing_behind_and_memory_does_not_grow(node: Node) -> None:
    for number in range(WARM_UP_CYCLES):
        cycle(node, number)
    held = Held(node)
    before, sizes = held.count(), [held.resident()]
    for number in range(WARM_UP_CYCLES, WARM_UP_CYCLES + CHAOS_CYCLES):
        cycle(node, number)
        sizes.append(held.resident())
    held.wait_until_as(before)
    node.check_quiet()
    growth = {
        name: slope(column) for name, column in zip(("launcher", "inference"), zip(*sizes, strict=True), strict=True)
    }
    print({name: f"{bytes_:.0f} bytes a stream" for name, bytes_ in growth.items()}, sizes[0], sizes[-1])
    assert all(bytes_ < MAX_GROWTH_BYTES for bytes_ in growth.values()), growth
    assert held.is_the_same(node), "inference was never started again"


def slope(values: tuple[int, ...]) -> float:
    """Of the straight line through them by least squares, a step."""
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    spread = sum((x - middle) ** 2 for x in range(len(values)))
    return sum((x - middle) * (value - mean) for x, value in enumerate(values)) / spread


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_kill_at_any_moment_of_a_stream_loses_no_count_and_holds_no_slot(tmp_path: Path, long_source: Path) -> None:
    dice = random.Random(2)
    often = {"max_restarts": 1000, "window": 1}
    with running(tmp_path, long_source, inference={"restart": often, "spares": 1}) as node:
        for number in range(KILL_CYCLES):
            stream, stage = f"k{number}", dice.choice(SPINE)
            with node.camera(f"{stream}-in"):
                assert node.start(stream).ok
                time.sleep(dice.uniform(0, 1))
                node.kill_if_there(stage)
                time.sleep(dice.choice([0, 0, 0.05, 0.5]))
                assert node.stop(stream).ok
            node.check_quiet()
        assert "stream_drain_timeout" not in node.pipeline.log
        with node.camera("last-in"):
            assert node.start("last").ok
            node.wait_for_more_frames("last")
            assert node.stop("last").ok
        node.check_quiet()
