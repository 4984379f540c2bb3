"""Hundreds of deaths of one live pipeline's stages, at any moment, also of one that is just coming back: a viewer gets
every picture at most once and in order, every frame is accounted for, and the launcher does not grow."""

import os
import random
from pathlib import Path

import pytest

from benchmarks.live_run import FPS, LiveRun
from benchmarks.recovery import count
from pipeline.media.pattern import write_pattern
from tests.integration.running import wait_until_gone

SCALE = float(os.environ.get("LIVEPIPE_CHAOS_SCALE", "1"))
"""Makes the run shorter, to try it out, or longer, to hunt."""

KILLS = round(500 * SCALE)
STAGES = ("ingress", "decode", "inference", "egress")
PAUSE_S = (0.2, 1.6)
"""Shorter than some recoveries: torch alone takes longer to load."""

SECONDS_A_KILL = 1.2
SECONDS_AROUND = 120
SIZE = 256

MAX_GROWTH_MB = 16.0
MAX_MORE_FDS = 0


@pytest.mark.chaos
@pytest.mark.timeout(1200 * max(1.0, SCALE))
def test_a_live_stream_outlives_hundreds_of_deaths_of_its_stages(tmp_path: Path) -> None:
    source = tmp_path / "source.ts"
    write_pattern(source, SIZE, SIZE, FPS, KILLS * SECONDS_A_KILL + SECONDS_AROUND, preset="ultrafast")
    moments = random.Random(1)
    killed: list[str] = []
    with LiveRun(tmp_path, source, size=SIZE, spares=1) as run:
        before = run.usage()
        while len(killed) < KILLS:
            run.listen(moments.uniform(*PAUSE_S))
            if run.kill(stage := moments.choice(STAGES)) is not None:
                killed.append(stage)
        run.wait_until_complete()
        after = run.usage()
        status = run.stop()
        seen, pids = run.onlooker.seen, run.pids()
    totals = count(seen, status)
    print(totals, before, after, {stage: killed.count(stage) for stage in STAGES})

    assert totals.balanced
    assert totals.in_flight == 0
    assert (totals.out_of_order, totals.doubled, totals.unreadable) == (0, 0, 0)
    assert sum(stage.restarts for stage in status.stages) == KILLS
    assert totals.undecoded == 0
    assert abs(totals.unseen) <= killed.count("egress"), "at most the frame in its hands was seen and not counted"
    assert after.launcher_mb - before.launcher_mb < MAX_GROWTH_MB
    assert after.launcher_fds - before.launcher_fds <= MAX_MORE_FDS
    assert all(wait_until_gone(pid) for pid in pids)
