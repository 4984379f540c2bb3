from collections.abc import Callable, Iterator

import pytest

from pipeline.boot import LinkBoot
from pipeline.link import FrameLink
from pipeline.topology_values import Policy
from tests.chaos import pixels
from tests.chaos.end_process import EndProcess
from tests.integration.conftest import launch, source

__all__ = ["launch", "make_link", "source", "start"]


@pytest.fixture
def make_link() -> Iterator[Callable[..., FrameLink]]:
    """make_link(policy, slots) -> a link of frames as `pixels` paints them."""
    links: list[FrameLink] = []

    def make(policy: Policy = "block", slots: int = 2) -> FrameLink:
        links.append(FrameLink("raw", slots, policy, pixels.FORMAT))
        return links[-1]

    yield make
    for link in links:
        link.close()


@pytest.fixture
def start() -> Iterator[Callable[..., EndProcess]]:
    """start(end, boot, *numbers) -> a process that runs one of `link_ends`; ends with the test."""
    processes: list[EndProcess] = []

    def make(end: Callable[..., None], boot: LinkBoot, *numbers: float) -> EndProcess:
        processes.append(EndProcess(end, boot, *numbers))
        return processes[-1]

    yield make
    for process in processes:
        process.close()
