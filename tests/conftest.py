"""Real descriptors, sockets and directories for the tests of everything that processes share."""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from pipeline.boot import FrameFormat, LinkBoot
from pipeline.link import FrameLink
from pipeline.memory.slab import create_slab
from pipeline.run_dir import RunDir

with contextlib.suppress(ModuleNotFoundError):  # The interpreter of the tests of ComfyUI does without.
    from hypothesis import settings

    settings.register_profile("no deadlines", deadline=None)  # No test asserts on wall time.
    settings.load_profile("no deadlines")


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Where this process's log goes is the process's, and tests share one."""
    logger = logging.getLogger("livepipe")
    handlers, propagate, level = logger.handlers[:], logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's name: a UNIX address has 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="lp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def held_dir(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunDir]:
    """That of a running pipeline called demo."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir))
    with RunDir("demo") as held:
        yield held


@pytest.fixture
def open_context() -> Iterator[Callable[[], zmq.Context]]:
    """Makes ZeroMQ contexts, one for each process that a test plays."""
    contexts: list[zmq.Context] = []

    def make() -> zmq.Context:
        contexts.append(zmq.Context())
        return contexts[-1]

    yield make
    for context in contexts:
        context.destroy(linger=0)


@pytest.fixture
def context(open_context: Callable[[], zmq.Context]) -> zmq.Context:
    return open_context()


@pytest.fixture
def wake_fd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    yield fd
    os.close(fd)


@pytest.fixture
def slab_fd() -> Iterator[Callable[[int], int]]:
    """slab_fd(nbytes) -> descriptor of a new slab."""
    fds: list[int] = []

    def make(nbytes: int) -> int:
        fds.append(create_slab("test", nbytes))
        return fds[-1]

    yield make
    for fd in fds:
        os.close(fd)


@pytest.fixture
def link_boot() -> Iterator[Callable[..., LinkBoot]]:
    """link_boot(policy, slots) -> a link of 16x16 frames with real memory and real bells."""
    links: list[FrameLink] = []

    def make(policy: str = "block", slots: int = 3) -> LinkBoot:
        links.append(FrameLink("raw", slots, policy, FrameFormat(16, 16)))
        return links[-1].boot

    yield make
    for link in links:
        link.close()
