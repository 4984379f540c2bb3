"""Every way in which a stage can die or hang: what is said of it, who comes back, and what becomes of the stream."""

import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.control import EventStream
from pipeline.media.pattern import write_pattern
from pipeline.media.verify import RecordingReport, verify_recording
from pipeline.run_dir import control_endpoint
from pipeline.status import StageStatus, Status
from tests.integration.running import PATIENCE_S, RunningPipeline, wait_until_gone

Launch = Callable[..., RunningPipeline]

FPS = 30
LIVE = {"links__raw__policy": "latest"}
WITH_API: dict[str, Any] = {"api": {"port": 0}}
FLOWS = "first_frame stage=egress"
AT_ONCE = {"max_restarts": 100, "window": 0.1}
"""Every death is answered as a first one is."""

NEVER = {"ready": 60, "heartbeat": 60, "progress": 60}
"""Limits for the whole file that nothing in a test reaches; those of a stage take their place."""


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def inference(callable_: str, params: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    processor = {"callable": f"tests.integration.{callable_}", "params": params or {}, "threads": 1}
    return {"worker": "inference", "input": "raw", "output": "styled", "processor": processor} | keys


def dying(marks: Path, *ways: str, **keys: Any) -> dict[str, Any]:
    return inference("odd_ops:dies", {"ways": list(ways), "marks": str(marks)}, restart=AT_ONCE, **keys)


def asked(pipeline: RunningPipeline) -> Status:
    """What /status says."""
    with urllib.request.urlopen(f"{pipeline.url_of('api')}/status") as reply:
        return msgspec.json.decode(reply.read(), type=Status)


def health(pipeline: RunningPipeline) -> int:
    try:
        with urllib.request.urlopen(f"{pipeline.url_of('api')}/health") as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def stage(status: Status, name: str) -> StageStatus:
    (found,) = (stage for stage in status.stages if stage.stage == name)
    return found


def stop(pipeline: RunningPipeline) -> int:
    pipeline.signal(signal.SIGTERM)
    return pipeline.end()


def check_the_end(pipeline: RunningPipeline) -> Status:
    """Every frame is accounted for, and no process is left."""
    status = pipeline.summary()
    assert status.frames.balanced, status.frames
    assert status.frames.in_flight == 0
    assert all(wait_until_gone(pid) for pid in pipeline.pids())
    assert not pipeline.folder.exists()
    return status


def check_the_recording(path: Path, status: Status) -> RecordingReport:
    """Nothing in it is out of order, and nothing is there twice but what egress repeated."""
    report = verify_recording(path, FPS)
    assert (report.out_of_order, report.unreadable) == (0, 0)
    assert report.duplicates <= status.repeated
    return report


def test_a_processor_may_end_its_process_in_any_way(
    launch: Launch, long_source: Path, marks: Path, tmp_path: Path
) -> None:
    ways = {
        "exit": "exit code 3",
        "segfault": "SIGSEGV",
        "abort": "SIGABRT",
        "memory": "SIGKILL",
        "child": "exit code 0",
    }
    pipeline = launch(long_source, limits=NEVER, stages__inference=dying(marks, *ways), **LIVE, **WITH_API)
    pipeline.wait_for("ready stage=egress")
    heard: list[str] = []
    with EventStream(control_endpoint(pipeline.name)) as events:
        while len(heard) < len(ways):
            event = events.next(PATIENCE_S)
            assert event is not None, pipeline.log
            if (event.stage, event.name) == ("inference", "died"):
                heard.append(str(event.fields["how"]))
    pipeline.wait_for("active stage=inference", len(ways) + 1)
    pipeline.wait_for_delivered(FPS // 2)
    shown = stage(asked(pipeline), "inference")
    left_behind = int(pipeline.wait_for(r"stage=inference \| left behind (\d+)")[1])

    assert stop(pipeline) == 0, pipeline.log
    assert heard == list(ways.values())
    for how in ways.values():
        pipeline.wait_for(f'ERROR died stage=inference how="?{how}"? ')
    assert (shown.state, shown.restarts, shown.last_death) == ("READY", len(ways), "exit code 0")
    assert wait_until_gone(left_behind), "the whole process group goes"
    check_the_recording(tmp_path / "seen.mp4", check_the_end(pipeline))


def test_a_processor_may_hang_with_the_interpreter_locked_or_free(
    launch: Launch, long_source: Path, marks: Path, tmp_path: Path
) -> None:
    """The limits are the stage's own; those of the file would find nothing."""
    strict = {"ready": 60, "heartbeat": 1, "progress": 1}
    pipeline = launch(
        long_source,
        limits=NEVER,
        stages__inference=dying(marks, "hold_gil", "native", limits=strict),
        **LIVE,
        **WITH_API,
    )
    for life, reason in enumerate(("no heartbeat for 1 s", "busy without progress for 1 s"), 1):
        pipeline.wait_for(f'ERROR hanging stage=inference pid={pipeline.pid_of("inference", life)} reason="{reason}"')
        pipeline.wait_for(rf'ERROR died stage=inference how="SIGKILL \({reason}\)"')
        pipeline.wait_for("active stage=inference", life + 1)
        pipeline.wait_for_delivered(FPS // 2)
    shown = stage(asked(pipeline), "inference")

    assert stop(pipeline) == 0, pipeline.log
    assert (shown.restarts, shown.last_death) == (2, "SIGKILL (busy without progress for 1 s)")
    assert pipeline.log.count(" hanging ") == 2
    check_the_recording(tmp_path / "seen.mp4", check_the_end(pipeline))


def test_a_model_that_deadlocks_while_it_loads_is_loaded_again(
    launch: Launch, long_source: Path, marks: Path, tmp_path: Path
) -> None:
    model = inference("odd_ops:DeadlocksOnce", {"mark": str(marks / "once")}, limits=NEVER | {"ready": 7})
    pipeline = launch(long_source, limits=NEVER, stages__inference=model, **LIVE)
    pipeline.wait_for('hanging stage=inference .*reason="not ready within 7 s"')
    pipeline.wait_for(FLOWS)
    pipeline.wait_for_delivered(FPS // 2)

    assert stop(pipeline) == 0, pipeline.log
    check_the_recording(tmp_path / "seen.mp4", check_the_end(pipeline))


@pytest.mark.parametrize(
    ("model", "ready", "how"),
    [
        ("odd_ops:LoadsForEver", 0.3, r"SIGKILL \(not ready within 0.3 s\)"),
        ("odd_workers.exits_at_import:model", 60, "exit code 7"),
    ],
)
def test_a_model_that_never_comes_up_is_given_up_and_the_pipeline_says_so(
    model: str, ready: float, how: str, launch: Launch, source: Path
) -> None:
    pipeline = launch(
        source,
        limits=NEVER,
        stages__inference=inference(
            model, limits=NEVER | {"ready": ready}, restart={"max_restarts": 1, "backoff": 0.1}
        ),
        **LIVE,
        **WITH_API,
    )
    pipeline.wait_for(f'failed stage=inference reason="{how}; 1 restarts in 60 s used up"')
    pipeline.wait_for("first_segment stage=ingress")
    shown = asked(pipeline)

    assert health(pipeline) == 503
    assert pipeline.end() == 1, "the source has ended"
    assert shown.state == "DEGRADED"
    (reason,) = shown.reasons
    assert reason.startswith("inference: ")
    assert "1 restarts in 60 s used up" in reason
    assert pipeline.log.count("died stage=inference") == 2
    status = check_the_end(pipeline)
    assert status.frames.delivered == 0
    assert status.frames.dropped.keys() <= {"late", "no_slot", "shutdown"}


def test_a_module_that_raises_at_import_is_a_mistake_and_no_death(launch: Launch, source: Path) -> None:
    pipeline = launch(source, stages__inference=inference("odd_workers.raises_at_import:model"))

    assert pipeline.end() == 2
    pipeline.wait_for("stages.inference.processor.callable: .*RuntimeError: the weights are not there")
    assert pipeline.log.count("started stage=inference") == 1
    assert "Traceback" not in pipeline.log


def test_the_other_stages_may_crash_or_stand_still_too(launch: Launch, long_source: Path, tmp_path: Path) -> None:
    stands_still = {"stages__egress__limits": NEVER | {"heartbeat": 1}}
    pipeline = launch(long_source, limits=NEVER, **stands_still, **LIVE, **WITH_API)
    pipeline.wait_for(FLOWS)
    for name, number, how in (
        ("ingress", signal.SIGABRT, "SIGABRT"),
        ("decode", signal.SIGSEGV, "SIGSEGV"),
        ("egress", signal.SIGSTOP, "SIGKILL (no heartbeat for 1 s)"),
    ):
        os.kill(pipeline.pid_of(name), number)
        pipeline.wait_for(f"ready stage={name}", 2)
        pipeline.wait_for_delivered(FPS // 2)
        shown = stage(asked(pipeline), name)
        assert (shown.state, shown.restarts, shown.last_death) == ("READY", 1, how)

    assert stop(pipeline) == 0, pipeline.log
    check_the_recording(tmp_path / "seen.mp4", check_the_end(pipeline))


def test_the_relay_may_die_and_everybody_finds_it_again(launch: Launch, tmp_path: Path) -> None:
    """Lost are the rest of the segment that the publisher was in, and of the one that egress was in, each up to the
    next keyframe: nobody can go on in the middle of a segment of which the relay has lost the beginning."""
    seconds = 6
    source = tmp_path / "source.ts"
    write_pattern(source, 320, 240, FPS, seconds, preset="ultrafast")
    pipeline = launch(source, **LIVE)
    pipeline.wait_for(FLOWS)
    pipeline.wait_for_delivered(FPS // 2)

    os.kill(pipeline.pid_of("relay"), signal.SIGKILL)

    pipeline.wait_for("ready stage=relay", 2)
    pipeline.wait_for(r"WARNING publisher.segment_lost stage=publisher")
    pipeline.wait_for(r"INFO relay.channel_created stage=relay channel=output", 2)
    pipeline.wait_for("segments_missed stage=recorder")
    assert pipeline.end() == 0, pipeline.log
    status = check_the_end(pipeline)
    assert {s.stage: s.restarts for s in status.stages if s.restarts} == {"relay": 1}
    report = check_the_recording(tmp_path / "seen.mp4", status)
    assert report.last_index == FPS * seconds - 1, "the viewer saw the stream to its end"
    assert 0 < report.missing < FPS * seconds / 2


def test_the_api_may_die_and_is_there_again_on_its_port(launch: Launch, source: Path) -> None:
    """Also when it is told to leave: a service ends with the pipeline and not before."""
    pipeline = launch(source, **LIVE, **WITH_API)
    pipeline.wait_for("ready stage=api")
    for deaths, (number, how) in enumerate(((signal.SIGKILL, "SIGKILL"), (signal.SIGTERM, "exit code 0")), 1):
        os.kill(pipeline.pid_of("api", deaths), number)
        pipeline.wait_for("died stage=api", deaths)

        assert health(pipeline) == 200, "who asks while it is away waits"
        shown = stage(asked(pipeline), "api")
        assert (shown.restarts, shown.last_death) == (deaths, how)
    assert stop(pipeline) == 0, pipeline.log
    check_the_end(pipeline)
