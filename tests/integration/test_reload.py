"""SIGHUP, and what a stage is given by the system: both from the topology file."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.integration.running import RunningPipeline, wait_until_gone

Launch = Callable[..., RunningPipeline]


def change(pipeline: RunningPipeline, **changes: Any) -> None:
    """Write to the topology file and have it read again. In the names of `changes`, __ is a dot."""
    topology = yaml.safe_load(pipeline.file.read_text())
    for dotted, value in changes.items():
        section = topology
        *parents, last = dotted.split("__")
        for key in parents:
            section = section[key]
        section[last] = value
    pipeline.file.write_text(yaml.safe_dump(topology))
    pipeline.signal(signal.SIGHUP)


def starts(pipeline: RunningPipeline, stage: str) -> int:
    return sum(f" started stage={stage} " in line for line in pipeline.lines)


def test_a_reload_restarts_only_what_changed(launch: Launch, long_source: Path) -> None:
    pipeline = launch(long_source, api={"port": 0})
    pipeline.wait_for("first_frame stage=egress")
    change(pipeline, stages__egress__encoder={"preset": "superfast", "bitrate": "900k"}, limits={"drain": 20})
    pipeline.wait_for("reloaded stage=launcher changed=egress$")
    pipeline.wait_for("ready stage=egress", 2)
    change(pipeline)
    pipeline.wait_for("reloaded stage=launcher changed=nothing")
    pipeline.signal(signal.SIGINT)
    assert pipeline.end() == 0, pipeline.log
    assert starts(pipeline, "egress") == 2
    assert all(starts(pipeline, stage) == 1 for stage in ("ingress", "decode", "inference", "recorder", "relay", "api"))
    assert pipeline.summary().frames.balanced


def test_a_mistake_in_the_file_changes_nothing(launch: Launch, long_source: Path) -> None:
    pipeline = launch(long_source)
    pipeline.wait_for("first_frame stage=egress")
    change(pipeline, stages__egress__encoder={"preset": "warp"})
    refused = pipeline.wait_for("reload_refused stage=launcher reason=(.*)")[1]
    assert "stages.egress.encoder.preset" in refused
    change(pipeline, stages__egress__encoder={"preset": "superfast"}, links__raw__slots=9)
    assert "links: a change needs a new start" in pipeline.wait_for("reload_refused .*reason=(.*)", 2)[1]
    pipeline.signal(signal.SIGINT)
    assert pipeline.end() == 0, pipeline.log
    assert starts(pipeline, "egress") == 1


def test_another_processor_takes_over_without_a_gap_and_one_that_is_not_there_changes_nothing(
    launch: Launch, long_source: Path
) -> None:
    pipeline = launch(long_source)
    pipeline.wait_for("first_frame stage=egress")
    change(pipeline, stages__inference__processor={"callable": "pipeline.processors.torch_ops:no_such"})
    pipeline.wait_for("renewal_failed stage=inference .*has no no_such")
    change(pipeline, stages__inference__processor={"callable": "pipeline.processors.torch_ops:identity"})
    pipeline.wait_for(r"active stage=inference", 2)
    pipeline.signal(signal.SIGINT)

    assert pipeline.end() == 0, pipeline.log

    status = pipeline.summary()
    assert status.state == "FINISHED"
    assert (status.frames.decoded, status.frames.dropped) == (status.frames.delivered, {})


def test_a_stage_gets_the_cpus_the_nice_value_and_the_oom_score_of_the_file(launch: Launch, long_source: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    pipeline = launch(long_source, stages__decode__schedule={"cpus": [cpu], "nice": 5, "oom_score": 700})
    pipeline.wait_for("ready stage=decode")
    decode, egress = pipeline.pid_of("decode"), pipeline.pid_of("egress")
    assert os.sched_getaffinity(decode) == {cpu}
    assert os.sched_getaffinity(egress) == os.sched_getaffinity(0)
    assert os.getpriority(os.PRIO_PROCESS, decode) == os.getpriority(os.PRIO_PROCESS, 0) + 5
    assert Path(f"/proc/{decode}/oom_score_adj").read_text() == "700\n"


def test_a_cpu_that_is_not_there_is_named_with_its_key(launch: Launch, source: Path) -> None:
    pipeline = launch(source, stages__decode__schedule={"cpus": [1023]})
    assert pipeline.end() == 2
    assert "stages.decode.schedule.cpus: [1023] are not all there; allowed: [" in pipeline.log
    assert "Traceback" not in pipeline.log


def test_a_stray_that_left_its_group_does_not_outlive_the_pipeline(launch: Launch, source: Path) -> None:
    stray = {"callable": "tests.integration.odd_strays:leaves_a_stray", "threads": 1}
    pipeline = launch(source, stages__inference__processor=stray)
    pid = int(pipeline.wait_for(r"stage=inference \| stray (\d+)")[1])
    assert pipeline.end() == 0, pipeline.log
    assert wait_until_gone(pid)
