"""Input and output play in the page, and what it says of their latency is so."""

import re
from itertools import pairwise
from statistics import median
from typing import Any

from pipeline.media.access_unit import CLOCK_HZ
from pipeline.media.excerpt import FIRST_PTS
from tests.browser.conftest import FPS
from tests.browser.opened_page import OpenedPage

FRAME_MS = 1000 / FPS
LOOKS = 12
SETTLED_S = 5.0
"""The players come to the live edge within that, and what is shown is of the last three seconds."""

LOOK = """async (looks) => {
  const { readIndex } = await import('/web/block_code.js');
  const { input, output, shown } = globalThis.livepipe.video;
  const seen = [];
  while (seen.length < looks) {
    const next = (done) => output.video.requestVideoFrameCallback((_, frame) => done(frame));
    const frame = await new Promise(next);
    const index = readIndex(output.video);
    const arrived = Math.max(...input.player.tap.arrivals.keys());
    const { pts, at } = shown.recent().at(-1);
    const said = document.getElementById("glass-latency").textContent;
    seen.push({ index, arrived, said, pts, latency: at - input.player.tap.arrivalOf(pts) });
    await new Promise((done) => setTimeout(done, 150));
  }
  return seen;
}"""
"""What is on the screen, which timestamps the page takes it for, and the newest timestamp of the source here."""


def index_of(pts_ms: float) -> float:
    return (pts_ms - FIRST_PTS * 1000 / CLOCK_HZ) / FRAME_MS


def test_both_videos_play_on(page: OpenedPage) -> None:
    assert page.tab.evaluate("MediaSource.isTypeSupported('video/mp4; codecs=\"avc1.64001f,mp4a.40.2\"')")
    for end in ("input", "output"):
        page.wait_for_video(end, 2.0)
    assert page.text("#video").count("256×256") == 2


def test_the_number_in_the_output_rises_and_is_that_of_its_timestamp(page: OpenedPage) -> None:
    page.wait_for_video("output", 2.0)
    page.wait_for_text("#glass-latency", r"p50 [\d.]+ ms")
    seen = look(page)
    numbers = [each["index"] for each in seen]
    assert all(before <= after for before, after in pairwise(numbers)), str(numbers)  # Equal: repeated by egress.
    assert numbers[-1] >= numbers[0] + LOOKS
    off = [abs(index_of(each["pts"]) - each["index"]) for each in seen]
    assert median(off) < 0.6, "the page knows which picture is on the screen"


def test_the_latency_that_is_shown_is_that_between_the_numbers(page: OpenedPage) -> None:
    page.wait_for_video("output", SETTLED_S)
    seen = look(page)
    behind = [(index_of(each["arrived"]) - each["index"]) * FRAME_MS for each in seen]
    measured = [each["latency"] for each in seen]
    assert median(abs(m - b) for m, b in zip(measured, behind, strict=True)) < 100, (measured, behind)
    assert 0 < median(behind) < 3000
    shown = [float(found[1]) for each in seen if (found := re.search(r"p50 ([\d.]+) ms", each["said"]))]
    assert len(shown) == len(seen), "it can be told all the time"
    assert min(measured) / 2 < median(shown) < max(measured) * 2, "the last three seconds' median"
    said = re.search(r"burnt-in numbers (\d+) and (\d+)", page.wait_for_text("#glass-latency", "burnt-in"))
    assert said is not None
    assert abs(int(said[1]) - int(said[2])) * FRAME_MS < 3000


def test_a_video_that_was_stopped_plays_on_at_the_live_edge(page: OpenedPage) -> None:
    page.wait_for_video("output")
    before = page.read_index("output")
    page.tab.get_by_role("button", name="Stop output").click()
    page.tab.get_by_role("button", name="Play output").click()
    page.wait_for_video("output", 1.0)
    after = page.read_index("output")
    assert before is not None
    assert after is not None
    assert after > before


def test_the_hops_of_traced_frames_are_shown_up_to_the_screen(page: OpenedPage) -> None:
    page.wait_for_text("#glass-latency", r"p50 [\d.]+ ms")
    page.wait_for_text("#waterfall [data-hop='player'] .value", r"[\d.]+ ms / [\d.]+ ms")
    page.wait_for_text("#waterfall [data-hop='inference'] .value", r"[\d.]+ ms / [\d.]+ ms")
    hops = page.tab.locator("#waterfall .hop-row").evaluate_all("rows => rows.map((row) => row.dataset.hop)")
    waits = ["waits for decode", "decode", "waits for inference", "inference", "waits for egress", "encode", "send"]
    assert hops == [*waits, "relay, network", "player"]
    page.wait_for_text("#frames", r"one in \d+.*frame \d+.* ms")
    pieces = page.tab.locator("#frames li:first-child rect").evaluate_all(
        "all => all.map((each) => [Number(each.getAttribute('x')), Number(each.getAttribute('width'))])"
    )
    assert pieces
    assert all(before[0] <= after[0] for before, after in pairwise(pieces))
    assert all(0 <= x <= 100 and x + width <= 100.1 for x, width in pieces)


def look(page: OpenedPage) -> list[dict[str, Any]]:
    seen: list[dict[str, Any]] = page.tab.evaluate(LOOK, LOOKS)
    return [each for each in seen if each["index"] is not None]
