"""The page at work on a live pipeline: deaths and restarts, parameters, events, the keyboard, colours, tokens."""

import os
import re
import signal
from typing import Any

from tests.browser.conftest import TOKEN
from tests.browser.opened_page import OpenedPage
from tests.integration.running import RunningPipeline

NEW_EVENTS = "([name, before]) => document.querySelectorAll(`#events li[data-name='${name}']`).length > before"

CONTROLS = "button, input, select, textarea, a[href], [tabindex='0']"

VISIBLE = f"""() => [...document.querySelectorAll("{CONTROLS}")]
  .filter((each) => !each.disabled && each.checkVisibility()).length"""

FOCUSED = f"""() => {{
  const all = [...document.querySelectorAll("{CONTROLS}")];
  const now = document.activeElement;
  return {{
    at: all.indexOf(now),
    tag: now.tagName,
    named: Boolean(now.labels?.length || now.textContent.trim() || now.getAttribute("aria-label")),
    ring: getComputedStyle(now).outlineStyle !== "none" && parseFloat(getComputedStyle(now).outlineWidth) >= 2,
  }};
}}"""


def count(page: OpenedPage, event: str) -> int:
    return int(page.tab.locator(f"#events li[data-name='{event}']").count())


def test_the_topology_is_shown_with_what_each_stage_does(page: OpenedPage) -> None:
    page.until("() => document.querySelectorAll('.flow > .stage').length === 4")
    order = page.tab.locator(".flow > li").evaluate_all("all => all.map((each) => each.id || each.dataset.link)")
    assert order == ["stage-ingress", "encoded", "stage-decode", "raw", "stage-inference", "styled", "stage-egress"]
    page.wait_for_text("#stage-inference [data-figure='in / out']", r"[1-9][\d.]* / [1-9]")
    page.wait_for_text("#stage-inference [data-figure='p50 / p95']", r"[\d.]+ ms / [\d.]+ ms")
    page.wait_for_text("#stage-inference [data-figure='memory']", r"\d+ MB")
    page.wait_for_text("[data-link='raw']", r"\d of 6, latest")
    assert page.tab.locator("[data-link='raw'] .slot").count() == 6
    page.wait_for_text("#health", r"^OK")
    page.wait_for_text("#equation", r"decoded \d+ = delivered \d+ \+ dropped \d+")
    assert page.tab.title().startswith("t-page-")


def test_a_killed_stage_shows_on_the_page_and_comes_back(page: OpenedPage, live: RunningPipeline) -> None:
    page.wait_for_text("#stage-inference h3", "READY")
    page.wait_for_video("output")
    old = page.stage("inference", "pid").split(",")[0]
    restarts = int(page.stage("inference", "restarts").split()[0])
    died = count(page, "died")
    os.kill(int(old), signal.SIGKILL)

    page.until(NEW_EVENTS, ["died", died])
    page.wait_for_text("#stage-inference h3", "STARTING|BACKOFF")
    page.wait_for_text("#health", "^LOADING")
    page.wait_for_text("#stage-inference h3", "READY")
    page.wait_for_text("#health", "^OK")
    assert page.stage("inference", "pid").split(",")[0] != old
    assert page.stage("inference", "restarts") == f"{restarts + 1} (SIGKILL)"
    page.wait_for_video("output", 2.0)
    before = page.read_index("output")
    page.until(
        "async ([id, before]) => (await import('/web/block_code.js')).readIndex(document.getElementById(id)) > before",
        ["output-video", before],
    )


def test_a_stage_is_restarted_from_its_box(page: OpenedPage) -> None:
    page.wait_for_text("#stage-decode h3", "READY")
    old = page.stage("decode", "pid").split(",")[0]
    page.tab.get_by_role("button", name="Restart decode").click()
    page.wait_for_text("#stage-decode [data-figure='pid']", rf"^(?!{old},)\d+")
    page.wait_for_text("#stage-decode h3", "READY")


def test_a_parameter_that_is_changed_changes_the_picture(page: OpenedPage) -> None:
    page.wait_for_video("output")
    mix = page.tab.get_by_label("mix", exact=True)
    before = brightness(page)
    mix.fill("1.0")
    page.tab.get_by_role("button", name="Apply").click()
    page.wait_for_text("#parameters [role=status]", "^In force")
    page.until(
        "([before]) => globalThis.brightness() < before * 0.7", [before]
    )  # Of the picture itself nothing is left but its edges.
    mix.fill("0.2")
    mix.press("Enter")
    page.until("([before]) => globalThis.brightness() > before * 0.9", [before])


def test_what_the_processor_refuses_is_told_at_its_field(page: OpenedPage) -> None:
    page.expected.append("422")  # The browser itself notes a request that was refused.
    page.wait_for_text("#parameters", "strength")
    strength = page.tab.get_by_label("strength", exact=True)
    strength.fill("much")
    strength.press("Enter")
    page.wait_for_text("[data-field='strength'] .problem", "strength: Expected `float`, got `str`")
    assert page.text("[data-field='strength'] .hint") == "0 to 100"
    assert strength.get_attribute("aria-invalid") == "true"
    assert page.text("[data-field='mix'] .problem") == ""
    page.wait_for_text("#parameters [role=status]", "^Refused")
    page.tab.get_by_role("button", name="Undo").click()
    assert strength.input_value() == "1"
    assert strength.get_attribute("aria-invalid") is None


def test_the_processor_rests_and_goes_on_while_the_stream_does(page: OpenedPage) -> None:
    page.wait_for_video("output")
    page.tab.get_by_label("and show the input meanwhile").check()
    page.tab.get_by_role("button", name="Pause the processor").click()
    page.wait_for_text("#health", "paused")
    page.wait_for_video("output", 1.0)
    page.tab.get_by_role("button", name="Let the processor go on").click()
    page.wait_for_text("#health", "^OK$")
    page.wait_for_video("output", 1.0)


def test_the_log_shows_what_its_filter_lets_through(page: OpenedPage) -> None:
    page.until("() => document.querySelectorAll('#events li').length > 3")
    log = page.tab.get_by_role("log")
    assert log.get_attribute("aria-live") == "polite"
    page.tab.get_by_label("Words").fill("what nobody ever says")
    assert log.locator("li:visible").count() == 0
    page.tab.get_by_label("Words").fill("first_frame")
    rows = log.locator("li:visible")
    assert rows.count() >= 1
    assert all("first_frame" in text for text in rows.all_inner_texts())
    page.tab.get_by_label("Words").fill("")
    page.tab.get_by_label("Stage", exact=True).select_option("egress")
    assert set(rows.evaluate_all("all => all.map((each) => each.dataset.stage)")) == {"egress"}


def test_the_keyboard_reaches_everything_and_leaves_it_again(page: OpenedPage) -> None:
    page.until("() => document.querySelectorAll('.flow > .stage').length === 4")
    page.wait_for_text("#parameters", "strength")
    page.wait_for_video("output")
    page.tab.evaluate("() => document.activeElement?.blur()")
    reached: dict[int, Any] = {}
    for _ in range(page.tab.evaluate(VISIBLE) + 5):
        page.tab.keyboard.press("Tab")
        focused = page.tab.evaluate(FOCUSED)
        if focused["at"] in reached or focused["tag"] == "BODY":
            break
        reached[focused["at"]] = focused
    assert len(reached) == page.tab.evaluate(VISIBLE)
    assert [each for each in reached.values() if not each["named"]] == []
    assert [each for each in reached.values() if not each["ring"]] == []


def test_the_skip_link_leads_to_the_content(page: OpenedPage) -> None:
    page.tab.keyboard.press("Tab")
    page.tab.keyboard.press("Enter")
    assert page.tab.evaluate("() => document.activeElement.id") == "main"


def test_colours_are_the_systems_until_the_switch_says_otherwise(browser: Any, live: RunningPipeline) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        with OpenedPage(browser, live.url_of("api"), TOKEN, color_scheme=scheme) as page:
            assert page.tab.evaluate("() => document.documentElement.dataset.theme") == scheme
            grounds[scheme] = ground(page)
            switch = page.tab.get_by_role("button", name=re.compile("^Colours"))
            switch.click()
            assert switch.inner_text() == "Colours: light"
            switch.click()
            assert switch.inner_text() == "Colours: dark"
            page.tab.reload()
            assert page.tab.evaluate("() => document.documentElement.dataset.theme") == "dark"
            assert worst_contrast(page) >= 4.5, "WCAG 2.2, 1.4.3"
            switch.click()
            assert page.tab.evaluate("() => document.documentElement.dataset.theme") == scheme
            assert worst_contrast(page) >= 4.5
    assert grounds["light"] != grounds["dark"]


def test_a_small_screen_scrolls_down_and_not_sideways(browser: Any, live: RunningPipeline) -> None:
    with OpenedPage(browser, live.url_of("api"), TOKEN, viewport={"width": 390, "height": 844}) as page:
        page.until("() => document.querySelectorAll('.flow > .stage').length === 4")
        page.wait_for_text("#parameters", "strength")
        assert page.tab.evaluate("() => document.documentElement.scrollWidth") <= 390


def test_without_its_token_the_page_shows_nothing_and_asks_for_it(browser: Any, live: RunningPipeline) -> None:
    with OpenedPage(browser, live.url_of("api")) as page:
        page.expected.append("401")  # The browser itself notes a request that was refused.
        field = page.tab.get_by_role("textbox", name="Token")
        field.wait_for()
        assert page.tab.locator(".stage").count() == 0
        field.fill("wrong-secret")
        field.press("Enter")
        page.wait_for_text("dialog", "This token is not known here")
        field.fill(TOKEN)
        page.tab.get_by_role("button", name="Continue").click()
        page.wait_for_text("#stage-egress h3", "READY")
        page.wait_for_video("output")
        assert page.tab.evaluate("() => localStorage.getItem('livepipe-token')") is None
    assert TOKEN not in live.log


def brightness(page: OpenedPage) -> float:
    page.tab.evaluate(
        """() => globalThis.brightness = () => {
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [64, 64];
          const context = canvas.getContext("2d");
          context.drawImage(document.getElementById("output-video"), 0, 0, 64, 64);
          const { data } = context.getImageData(0, 0, 64, 30);
          return data.reduce((sum, value) => sum + value, 0) / data.length;
        }"""
    )
    return float(page.tab.evaluate("() => globalThis.brightness()"))


def ground(page: OpenedPage) -> str:
    return str(page.tab.evaluate("() => getComputedStyle(document.body).backgroundColor"))


def worst_contrast(page: OpenedPage) -> float:
    """Of the colours of text on the grounds that they stand on."""
    return float(
        page.tab.evaluate(
            """() => {
              const style = getComputedStyle(document.documentElement);
              const light = (name) => {
                const hex = style.getPropertyValue(name).trim().slice(1);
                const parts = [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
                const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
              };
              const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
              const inks = ["--ink", "--muted", "--accent", "--ok", "--warn", "--bad", "--idle"];
              const pairs = inks.flatMap((ink) => ["--card", "--raised"].map((ground) => ratio(ink, ground)));
              return Math.min(...pairs, ratio("--on-accent", "--accent"));
            }"""
        )
    )
