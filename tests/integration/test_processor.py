"""What processors may do to the frames, and how they are changed while frames flow."""

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.media.verify import verify_recording
from tests.integration.conftest import FPS, SECONDS
from tests.integration.running import ROOT, RunningPipeline

FRAMES = FPS * SECONDS
OPS = "tests.integration.odd_ops"
Launch = Callable[..., RunningPipeline]


@pytest.mark.parametrize("on_error", ["last_frame", "pass_through"])
def test_a_processor_that_raises_costs_the_frame_and_something_is_shown_in_its_place(
    launch: Launch, source: Path, tmp_path: Path, on_error: str
) -> None:
    pipeline = launch(source, stages__inference__processor={"callable": f"{OPS}:fails_sometimes", "on_error": on_error})

    assert pipeline.end() == 0, pipeline.log

    frames = pipeline.summary().frames
    assert frames.balanced
    assert frames.dropped.keys() == {"processor_error"}
    failed = frames.dropped["processor_error"]
    assert FRAMES / 12 < failed < FRAMES / 8
    pipeline.wait_for(r'processor_error stage=inference seq=\d+ problem="RuntimeError: the model did not like this')
    report = verify_recording(tmp_path / "seen.mp4", FPS)
    assert report.frames == FRAMES
    assert report.inverted == FRAMES - (failed if on_error == "pass_through" else 0)
    assert report.duplicates == (failed if on_error == "last_frame" else 0)


def test_frames_may_be_withheld(launch: Launch, source: Path, tmp_path: Path) -> None:
    pipeline = launch(source, stages__inference__processor={"callable": f"{OPS}:withholds", "params": {"every": 3}})

    assert pipeline.end() == 0, pipeline.log

    frames = pipeline.summary().frames
    assert frames.balanced
    assert frames.dropped.keys() == {"withheld"}
    assert FRAMES * 0.3 < frames.dropped["withheld"] < FRAMES * 0.37
    assert verify_recording(tmp_path / "seen.mp4", FPS).frames == frames.delivered


def test_a_processor_that_only_fails_gets_a_new_process(launch: Launch, source: Path, tmp_path: Path) -> None:
    pipeline = launch(
        source,
        stages__inference__processor={
            "callable": f"{OPS}:fails_in_its_first_life",
            "params": {"mark": str(tmp_path / "mark")},
            "give_up_after": 5,
        },
    )

    assert pipeline.end() == 0, pipeline.log

    pipeline.wait_for("gives_up stage=inference reason=.the processor failed on 5 frames in a row: stuck")
    status = pipeline.summary()
    assert status.frames.dropped == {"processor_error": 4}, "the fifth was tried again by the new process"
    assert status.frames.balanced
    assert "Traceback" not in pipeline.log


def test_parameters_change_while_frames_flow_for_this_process_and_all_that_come(
    launch: Launch, long_source: Path
) -> None:
    pipeline = launch(
        long_source,
        stages__inference__processor={"callable": f"{OPS}:says", "params": {"word": "one"}},
        stages__inference__spares=1,
    )
    pipeline.wait_for("text stage=inference seq=.* text=one")

    assert pipeline.update("{word: two}") == (0, 'inference: changed {"word":"two"}\n')
    pipeline.wait_for("text stage=inference seq=.* text=two")

    code, said = pipeline.update("{wort: three}")
    assert code == 2
    assert "unexpected keyword argument 'wort'; parameters that it takes: word" in said

    pipeline.wait_for("ready stage=inference", 2)
    os.kill(pipeline.pid_of("inference"), signal.SIGKILL)  # The spare that takes over was told too.
    pipeline.wait_for("active stage=inference pid=", 2)
    before = sum("text=one" in line for line in pipeline.lines)
    pipeline.signal(signal.SIGINT)

    assert pipeline.end() == 0, pipeline.log

    assert sum("text=one" in line for line in pipeline.lines) == before
    frames = pipeline.summary().frames
    assert (frames.decoded, frames.dropped, frames.in_flight) == (frames.delivered, {}, 0), "no change cost a frame"


def test_a_change_that_makes_no_sense_is_one_line(launch: Launch) -> None:
    pipeline = launch(None)
    pipeline.wait_for("ready stage=inference")
    for stage, params, said in (
        ("decode", "{word: two}", "decode: word: not known here; allowed: width, height, fit"),
        ("inference", "word", "needed is a map of names to values"),
        ("inference", "{word: [}", "no YAML or JSON"),
        ("inference", "@no-such-file", "no-such-file"),
    ):
        code, output = pipeline.update(params, stage)
        assert (code, output.count("\n")) == (2, 1), output
        assert said in output
    pipeline.signal(signal.SIGINT)


@pytest.mark.parametrize("with_package", [True, False], ids=["pytrickle's own frames", "ours"])
def test_a_pytrickle_processor_runs_unchanged(launch: Launch, source: Path, tmp_path: Path, with_package: bool) -> None:
    python = ROOT / ".venv-pytrickle/bin/python" if with_package else Path(sys.executable)
    if not python.exists():
        pytest.skip("no pytrickle here: make .venv-pytrickle/.installed")
    pipeline = launch(
        source,
        "--set",
        f"stages.inference.python={python}",
        stages__inference__processor={
            "trickle_app": "tests.integration.trickle_app_ops:Negative",
            "params": {"strength": 1.0},
            "threads": 1,
        },
    )

    assert pipeline.end() == 0, pipeline.log

    assert pipeline.summary().frames.delivered == FRAMES
    assert verify_recording(tmp_path / "seen.mp4", FPS).inverted == FRAMES


def test_a_process_with_other_parameters_is_loaded_beside_the_one_at_work_and_takes_over(
    launch: Launch, long_source: Path, tmp_path: Path
) -> None:
    pipeline = launch(long_source, stages__inference__processor={"callable": f"{OPS}:says", "params": {"word": "one"}})
    pipeline.wait_for("text stage=inference seq=.* text=one")

    code, said = pipeline.update("{wort: three}", "inference", "--renew")
    assert code == 2
    assert "unexpected keyword argument 'wort'" in said
    assert pipeline.update("{word: two}", "inference", "--renew") == (0, 'inference: changed to {"word":"two"}\n')
    pipeline.wait_for("text stage=inference seq=.* text=two")
    pipeline.signal(signal.SIGINT)

    assert pipeline.end() == 0, pipeline.log
    frames = pipeline.summary().frames
    assert (frames.decoded, frames.dropped, frames.in_flight) == (frames.delivered, {}, 0), "neither cost a frame"
    assert verify_recording(tmp_path / "seen.mp4", FPS).duplicates == 0
    words = [match for line in pipeline.lines if (match := re.search("text=(one|two)", line))]
    assert [word[1] for word in words] == sorted(word[1] for word in words), "first the old one, then the new"
    assert pipeline.summary().stages[4].restarts == 0
