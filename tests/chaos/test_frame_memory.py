"""Frames cross three processes, any of which is killed at any instruction: not one is torn, doubled, overtaken or lost
without a reason. The long runs are the proof; the short ones show that the harness works, and that it can fail."""

import os

import pytest
from msgspec.structs import replace

from tests.chaos.chain_report import Report
from tests.chaos.frame_chain import Plan, run

BLOCK_FRAMES, BLOCK_KILLS = 200_000, 5_000
LATEST_FRAMES, LATEST_KILLS = 50_000, 1_000
SHORT_FRAMES, SHORT_KILLS = 2_000, 50
BROKEN_FRAMES = 500
"""For chains that work slowly so that the harm they can do is often done."""

SCALE = float(os.environ.get("LIVEPIPE_CHAOS_SCALE", "1"))
"""Makes the long runs shorter, to try them out, or longer, to hunt."""

LONG = (pytest.mark.chaos, pytest.mark.timeout(900 * max(1.0, SCALE)))


def short_and_long(short: tuple[int, int], long: tuple[int, int]) -> pytest.MarkDecorator:
    scaled = [round(SCALE * size) for size in long]
    return pytest.mark.parametrize(
        ("frames", "kills"), [pytest.param(*short, id="short"), pytest.param(*scaled, id="long", marks=LONG)]
    )


def report_on(plan: Plan) -> Report:
    report = run(plan)
    print(report)
    return report


@short_and_long((SHORT_FRAMES, 0), (BLOCK_FRAMES, 0))
def test_every_frame_arrives_once_and_in_order_when_nobody_dies(frames: int, kills: int) -> None:
    report = report_on(Plan(frames=frames, kills=kills))
    assert report.faults == {}
    assert report.dropped == {}
    assert report.logged == report.numbered >= frames


@short_and_long((SHORT_FRAMES, SHORT_KILLS), (BLOCK_FRAMES, BLOCK_KILLS))
def test_every_frame_arrives_or_has_its_one_reason_while_stages_are_killed(frames: int, kills: int) -> None:
    report = report_on(Plan(frames=frames, kills=kills))
    assert report.faults == {}
    assert report.by_number, "each reason has its frame"
    assert report.numbered >= frames
    assert report.kills >= kills
    assert set(report.dropped) <= {"crash", "poison"}


@short_and_long((SHORT_FRAMES, SHORT_KILLS), (LATEST_FRAMES, LATEST_KILLS))
def test_every_frame_of_a_live_link_is_accounted_for_while_stages_are_killed(frames: int, kills: int) -> None:
    report = report_on(
        Plan(
            frames=frames,
            kills=kills,
            policy="latest",
            source="tests.chaos.chain_stages:live_source",
            middle="tests.chaos.chain_stages:slow_middle",
        )
    )
    assert report.faults == {}
    assert report.numbered >= frames
    assert report.kills >= kills
    assert report.dropped["late"] > 0
    assert report.logged > 0


@pytest.mark.parametrize(
    ("part", "name", "frames", "fault"),
    [
        ("supervisor", "SupervisorThatCannotWait", SHORT_FRAMES, "corrupt"),
        ("source", "source_that_publishes_too_early", SHORT_FRAMES, "corrupt"),
        ("middle", "middle_that_releases_too_early", BROKEN_FRAMES, "unexplained"),
        ("sink", "sink_that_commits_too_late", BROKEN_FRAMES, "duplicates"),
    ],
)
def test_the_checks_find_a(part: str, name: str, frames: int, fault: str) -> None:
    plan = Plan(frames=frames, kills=SHORT_KILLS, patience_s=10)
    report = report_on(replace(plan, **{part: f"tests.chaos.broken_parts:{name}"}))
    assert report.faults.get(fault), report
