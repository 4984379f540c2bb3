from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipeline.media.pattern import write_pattern
from tests.integration.running import RunningPipeline, topology

FPS = 30
SECONDS = 5
LONGER_SECONDS = 15


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 s of numbered pictures at 30 fps with beeps: H.264 and AAC in MPEG-TS, a keyframe a second."""
    path = tmp_path_factory.mktemp("source") / "source.ts"
    write_pattern(path, 320, 180, FPS, SECONDS)
    return path


@pytest.fixture(scope="session")
def short_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of the same: for tests of what comes after."""
    path = tmp_path_factory.mktemp("source") / "short.ts"
    write_pattern(path, 320, 180, FPS, 1)
    return path


@pytest.fixture(scope="session")
def long_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of the same: for tests that end the stream themselves."""
    path = tmp_path_factory.mktemp("source") / "long.ts"
    write_pattern(path, 320, 180, FPS, 60)
    return path


@pytest.fixture(scope="session")
def longer_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LONGER_SECONDS of the same: for tests that give commands meanwhile, and count to its end."""
    path = tmp_path_factory.mktemp("source") / "longer.ts"
    write_pattern(path, 320, 180, FPS, LONGER_SECONDS)
    return path


@pytest.fixture
def launch(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., RunningPipeline]]:
    """Starts pipelines of the test's own name: `launch(source, **changes)`; ends them with the test."""
    name = "t-" + "".join(c if c.isalnum() else "-" for c in request.node.name)[-28:].strip("-")
    with ExitStack() as stack:

        def start(source: Path | None, *options: str, **changes: Any) -> RunningPipeline:
            return stack.enter_context(RunningPipeline(topology(name, tmp_path, source, **changes), tmp_path, *options))

        yield start
