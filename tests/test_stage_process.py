"""A real process in a real group. A shell script stands in for the interpreter that a stage may name."""

import os
import select
import signal
import time

import msgspec
import pytest

from pipeline.boot import WorkerBoot
from pipeline.memory.slab import create_slab
from pipeline.memory.stage_stats import STATS_BYTES
from pipeline.stage_output import LAST_LINES
from pipeline.stage_process import StageProcess
from pipeline.topology import Inference as InferenceSpec
from pipeline.topology_sections import Frame, Processor


@pytest.fixture
def start(tmp_path, slab_fd):
    """start(script) -> the stage's process, which runs `script` with the worker's arguments."""
    processes = []

    def make(script):
        python = tmp_path / "python"
        python.write_text(f"#!/bin/bash\n{script}\n")
        python.chmod(0o755)
        spec = InferenceSpec(input="raw", output="styled", processor=Processor(callable="a:b"), python=str(python))
        stats_fd = slab_fd(STATS_BYTES)
        boot = WorkerBoot(
            pipeline="demo",
            stage="inference",
            section="stages.inference",
            incarnation=7,
            launcher_pid=os.getpid(),
            control_endpoint="ipc://x",
            stream="main",
            epoch=0,
            log_level="INFO",
            device="cpu",
            frame=Frame(),
            stats_fd=stats_fd,
            spec=spec,
        )
        processes.append(StageProcess(boot, "inference", [stats_fd]))
        return processes[-1]

    yield make
    for process in processes:
        if process.returncode is None:
            process.wait()
            process.close()


def until_line(process, text):
    """Every line up to the one that holds `text`, each awaited."""
    lines = []
    while not any(text in line for line in lines):
        select.select([process.output.fd], [], [])
        lines += process.output.lines(time.monotonic())
    return lines


def until_dead(process):
    select.select([process.pidfd], [], [])


def until_silent(process):
    lines = []
    while not process.output.ended:
        select.select([process.output.fd], [], [])
        lines += process.output.lines(time.monotonic())
    return lines


def test_a_worker_is_named_so_that_people_find_it(start):
    process = start('echo "$2 $3 $4 $5"')
    assert until_line(process, "workers") == ["-m workers.inference demo:inference --boot-fd"]


def test_a_worker_reads_what_it_was_told_from_its_descriptor(start):
    process = start('od -An -tx1 -v "/proc/self/fd/$6" | tr -d " \\n"; echo; echo done')
    text = until_line(process, "done")[0]
    boot = msgspec.msgpack.decode(bytes.fromhex(text), type=WorkerBoot)
    assert (boot.stage, boot.incarnation) == ("inference", 7)


def test_a_worker_inherits_what_it_is_handed_and_nothing_else(start):
    stray = create_slab("stray", 4096)
    os.set_inheritable(stray, True)
    process = start("for fd in /proc/$$/fd/*; do readlink $fd; done; echo done")
    open_files = until_line(process, "done")
    assert sum("memfd:test" in name for name in open_files) == 1
    assert not any("stray" in name for name in open_files)
    os.close(stray)


def test_lines_come_whole_and_in_order(start):
    process = start("printf 'half'; sleep 0.05; printf ' line\\n\\nnext\\n'")
    assert until_silent(process) == ["half line", "next"]
    assert list(process.output.last_lines) == ["half line", "next"]


def test_errors_are_heard_too(start):
    assert until_silent(start("echo oops >&2")) == ["oops"]


def test_bytes_that_are_no_text_do_no_harm(start):
    assert until_silent(start("printf '\\xff\\xfe ok\\n'")) == ["\ufffd\ufffd ok"]


def test_the_last_words_are_heard_without_a_line_end(start):
    assert until_silent(start("printf 'terminate called'")) == ["terminate called"]


def test_only_the_last_lines_are_kept(start):
    process = start("for i in {1..100}; do echo $i; done")
    until_silent(process)
    assert list(process.output.last_lines) == [str(i) for i in range(101 - LAST_LINES, 101)]


def test_asking_for_lines_does_not_wait(start):
    process = start("sleep 60")
    assert process.output.lines(time.monotonic()) == []
    assert not process.output.ended


def test_a_death_is_seen_at_its_descriptor(start):
    process = start("exit 3")
    until_dead(process)
    assert process.returncode is None
    assert process.wait() == 3
    assert process.returncode == 3
    process.close()


def test_a_kill_reaches_the_whole_group(start):
    process = start("sleep 300 & echo $!; wait")
    (grandchild,) = map(int, until_line(process, ""))
    handle = os.pidfd_open(grandchild)
    process.kill()
    until_dead(process)
    assert process.wait() == -signal.SIGKILL
    select.select([handle], [], [])
    os.close(handle)
    process.close()


def test_what_a_dead_worker_left_in_its_group_is_killed(start):
    process = start("sleep 300 > /dev/null 2>&1 & echo $!; exit 0")
    (grandchild,) = map(int, until_line(process, ""))
    handle = os.pidfd_open(grandchild)
    until_dead(process)
    assert process.wait() == 0
    select.select([handle], [], [])
    os.close(handle)
    process.close()


def test_killing_the_dead_does_no_harm(start):
    process = start("exit 0")
    until_dead(process)
    process.kill()
    assert process.wait() == 0
    process.kill()
    process.close()


def test_a_signal_to_the_launchers_group_is_not_for_the_workers(start):
    process = start("sleep 60")
    assert os.getpgid(process.pid) == process.pid != os.getpgid(0)


def test_the_usage_of_the_living_is_measured_and_of_the_reaped_remembered(start):
    process = start("for i in {1..20000}; do :; done; echo burnt; sleep 300")
    until_line(process, "burnt")
    usage = process.usage()
    assert usage.cpu_s > 0
    assert usage.rss_bytes > 0
    assert usage.threads == 1
    assert usage.open_fds > 3
    process.wait()
    assert process.usage() == usage
    process.close()


def test_an_interpreter_that_is_not_there_is_an_error_and_leaves_nothing_open(start, slab_fd):
    boot = WorkerBoot(
        "demo",
        "inference",
        "stages.inference",
        1,
        os.getpid(),
        "ipc://x",
        "main",
        0,
        "INFO",
        "cpu",
        Frame(),
        slab_fd(STATS_BYTES),
        spec=InferenceSpec(input="a", output="b", processor=Processor(callable="a:b"), python="/no/such/python"),
    )
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        StageProcess(boot, "inference", [boot.stats_fd])
    assert len(os.listdir("/proc/self/fd")) == before


def test_closing_gives_every_descriptor_back(start):
    before = len(os.listdir("/proc/self/fd"))
    process = start("exit 0")
    process.wait()
    process.close()
    assert len(os.listdir("/proc/self/fd")) - 1 == before  # The slab of the counters stays.
