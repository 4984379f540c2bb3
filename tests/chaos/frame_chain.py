"""A chain of three real processes over real links, any of which is killed at any instruction; and its supervisor.

The supervisor is the launcher's own Wiring with a fork for a start, so that a new life costs a few milliseconds. It
runs in an interpreter of its own, which has one thread and so can be forked: `run(plan)` starts it and returns its
report.
"""

import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from mmap import PAGESIZE, mmap
from pathlib import Path
from pkgutil import resolve_name
from typing import NoReturn

import msgspec

from pipeline.run_dir import RunDir
from pipeline.topology import Decode, Egress, Inference, Ingress, Link, Topology
from pipeline.topology_sections import Frame, Processor, Sink, Source
from pipeline.topology_values import Policy
from pipeline.wiring import Wiring
from tests.chaos import pixels
from tests.chaos.chain_report import Report, Witness
from tests.chaos.chain_stages import Common, Stage
from tests.chaos.lone_process import die_with_parent, one_thread

STAGES = ("source", "middle", "sink")

KILLED_TOGETHER = (1, 1, 1, 1, 1, 1, 1, 1, 2, 3)
"""How many stages die at once, drawn by lot."""

FIRST_INTERVAL_S = 0.004
PACE = 1.05
"""By how much the time between two kills is changed after each, so that frames and kills are done together."""

AWAY_SECONDS = 0.002
"""The longest time for which the launcher looks after a link in the place of its reader."""

LOOK_SECONDS = 0.01
PROGRESS_SECONDS = 5.0

_ROOT = Path(__file__).resolve().parents[2]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A run: it goes on until there were `frames` frames and `kills` kills. Its parts are named as module:name."""

    frames: int
    kills: int = 0
    policy: Policy = "block"
    raw_slots: int = 4
    styled_slots: int = 3
    seed: int = 1
    patience_s: float = 30.0
    source: str = "tests.chaos.chain_stages:source"
    middle: str = "tests.chaos.chain_stages:middle"
    sink: str = "tests.chaos.chain_stages:sink"
    supervisor: str = "tests.chaos.frame_chain:Chain"


def run(plan: Plan) -> Report:
    """Run `plan` to its end. Progress goes to stderr. Raises CalledProcessError when the supervisor failed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.frame_chain"],
        input=msgspec.json.encode(plan),
        stdout=subprocess.PIPE,
        cwd=_ROOT,
        env=one_thread(),
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Report)


class Halted(Exception):
    """The run cannot go on: a stage has ended, or nothing has moved for longer than the plan's patience."""


class Life:
    """One process of a stage."""

    def __init__(self, pid: int, incarnation: int) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.incarnation = incarnation

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> int:
        """Wait for the end, after which it stores nothing any more, and return the exit code."""
        select.select([self.pidfd], [], [])
        os.close(self.pidfd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Chain:
    """The supervisor: starts, kills, waits, reclaims and starts again."""

    def __init__(self, plan: Plan, wiring: Wiring) -> None:
        raw, styled = wiring.links["raw"], wiring.links["styled"]
        self.plan = plan
        self.wiring = wiring
        self.random = random.Random(plan.seed)
        self.lives: dict[str, Life] = {}
        self.kills = 0
        self.witness = Witness(raw.table, styled.table)
        self._stages: dict[str, Stage] = {name: resolve_name(getattr(plan, name)) for name in STAGES}
        self._common = Common(raw.boot, styled.boot, plan.frames, mmap(-1, PAGESIZE), os.memfd_create("log"))
        self._incarnations = 0
        self._failed = 0
        self._interval = FIRST_INTERVAL_S
        self._progress = -1
        self._moved = self._told = time.monotonic()

    def run(self) -> Report:
        began = time.monotonic()
        for stage in STAGES:
            self.start(stage)
        halted = False
        try:
            while self.kills < self.plan.kills or self.witness.numbered() < self.plan.frames:
                self._disturb()
            self._common.stop[0] = 1
            while self.lives:
                self._watch(LOOK_SECONDS)
        except Halted:
            halted = True
            print(*self.wiring.link_status(), sep="\n", file=sys.stderr)
        for life in self.lives.values():
            life.kill()
            life.reap()
        frames, seconds = self.wiring.frame_count(), time.monotonic() - began
        return self.witness.report(self._common.log, frames, self.kills, self._failed, halted, seconds)

    def start(self, stage: str) -> None:
        self._incarnations += 1
        pid = os.fork()
        if pid == 0:
            self._live(stage)
        self.lives[stage] = Life(pid, self._incarnations)

    def strike(self) -> None:
        """Kill one stage, or several at once, and put others in their places."""
        victims = self.random.sample(STAGES, self.random.choice(KILLED_TOGETHER))
        for stage in victims:
            self.lives[stage].kill()
        for stage in victims:
            self.lives[stage].reap()
            self.reclaim(stage)
            self._skim_for(stage)
            self.start(stage)

    def reclaim(self, stage: str) -> None:
        """What the launcher does once a stage is dead."""
        self.kills += 1
        with self.witness.reclaiming(stage, self.lives[stage].incarnation):
            self.wiring.reclaim(stage)
        again = self.wiring.reclaim(stage)
        assert not any(again.values()), f"a second reclaim of {stage} found {again}"

    def _skim_for(self, stage: str) -> None:
        """What the launcher does in the place of a reader of the newest frame that is away."""
        for link in self.wiring.newest_only_links(stage):
            time.sleep(self.random.uniform(0, AWAY_SECONDS))
            link.skim()

    def _disturb(self) -> None:
        """Let the chain go on for a while, then strike, as long as kills are left."""
        more = self.kills < self.plan.kills
        self._watch(self.random.uniform(0, 2 * self._interval) if more else LOOK_SECONDS)
        if len(self.lives) < len(STAGES):
            raise Halted
        if not more:
            return
        self.strike()
        ahead = self.kills * self.plan.frames > self.witness.numbered() * self.plan.kills
        self._interval *= PACE if ahead else 1 / PACE

    def _watch(self, seconds: float) -> None:
        """Let the chain go on for `seconds`, and note who ends by itself and whether anything moves."""
        ended, _, _ = select.select([life.pidfd for life in self.lives.values()], [], [], seconds)
        for stage, life in list(self.lives.items()):
            if life.pidfd in ended:
                self._failed += self.lives.pop(stage).reap() != 0
        now, progress = time.monotonic(), self.witness.progress()
        if progress != self._progress:
            self._progress, self._moved = progress, now
        elif now - self._moved > self.plan.patience_s:
            raise Halted
        if now - self._told > PROGRESS_SECONDS:
            self._told = now
            print(f"frames={self.witness.numbered()} kills={self.kills}", file=sys.stderr, flush=True)

    def _live(self, stage: str) -> NoReturn:
        """The whole life of a child."""
        code = 1
        try:
            die_with_parent()
            self._stages[stage](self._common, self._incarnations)
            code = 0
        except Exception:  # noqa: BLE001 - the outermost of this process
            traceback.print_exc()
        finally:
            os._exit(code)


def topology(plan: Plan) -> Topology:
    """The real one, of which only the stages with frames are started."""
    return Topology(
        name="chaos",
        frame=Frame(width=pixels.FORMAT.width, height=pixels.FORMAT.height),
        links={
            "bytes": Link(),
            "raw": Link(slots=plan.raw_slots, policy=plan.policy),
            "styled": Link(slots=plan.styled_slots),
        },
        stages={
            "ingress": Ingress(source=Source(trickle="in"), output="bytes"),
            "source": Decode(input="bytes", output="raw"),
            "middle": Inference(input="raw", output="styled", processor=Processor(callable="a:b")),
            "sink": Egress(input="styled", sink=Sink(trickle="out")),
        },
    )


def main() -> None:
    die_with_parent()
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    with tempfile.TemporaryDirectory(prefix="lp") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        with RunDir("chaos") as run_dir:
            report = resolve_name(plan.supervisor)(plan, Wiring(topology(plan), run_dir)).run()
    sys.stdout.buffer.write(msgspec.json.encode(report))


if __name__ == "__main__":
    main()
