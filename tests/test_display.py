import io
import json
import logging

import pytest
from rich.console import Console

from pipeline import log
from pipeline.display import Terminal, progress_bar, progress_words, stream_lines
from pipeline.status import FrameCount, Progress, StageStatus, Status, StreamSpec, StreamStatus
from pipeline.topology_logs import Logs


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress(0.0, 40.0, 0.0), "00:00 of 00:40 (0%)"),
        (Progress(10.0, 40.0, 5.0), "00:10 of 00:40 (25%), 00:15 left"),
        (Progress(3600.0, 7200.0, 7200.0), "1:00:00 of 2:00:00 (50%), 2:00:00 left"),
        (Progress(41.0, 40.0, 5.0), "00:41 of 00:40 (100%), 00:00 left"),
        (Progress(75.0, None, 5.0), "01:15"),
    ],
)
def test_progress_says_how_far_and_how_long(progress, words):
    assert progress_words(progress) == words
    screen = io.StringIO()
    Console(file=screen, width=120, force_terminal=True).print(progress_bar(progress, 24.96))
    assert f"{words}, 25.0 fps" in screen.getvalue()


@pytest.fixture
def screen():
    yield io.StringIO()
    logging.getLogger("livepipe").handlers.clear()


def test_on_a_terminal_lines_scroll_by_above_a_table(screen):
    with Terminal(Console(file=screen, width=120, force_terminal=True), Logs(), "api") as terminal:
        terminal.show(idle_node())
        terminal.output("decode", "a :warning: of [bold]its own[/]")
        terminal.output("decode", log.Record("WARNING", "late", {"seq": 4}))
    assert "no stream: waits for a request" in screen.getvalue()
    assert "INFO stage=decode | a :warning: of [bold]its own[/]" in screen.getvalue()
    assert "WARNING late stage=decode seq=4" in screen.getvalue()


def test_for_machines_there_is_nothing_but_objects(screen):
    logs = Logs(format="json", stages={"egress": "ERROR"})
    with Terminal(Console(file=screen, width=20, force_terminal=True), logs, "api") as terminal:
        terminal.show(idle_node())
        terminal.event(
            "info", "decode", "ready", {"detail": "a :warning: that is long enough to be wrapped", "role": ""}
        )
        terminal.output("decode", log.Record("WARNING", "odd", {"stage": "another"}))
        terminal.event("warning", "egress", "unseen", {})
    ready, odd = map(json.loads, screen.getvalue().splitlines())
    assert (ready["event"], ready["detail"]) == ("ready", "a :warning: that is long enough to be wrapped")
    assert "role" not in ready, "what is empty says nothing"
    assert odd["event"] == "odd"


def idle_node(*streams):
    stage = StageStatus("decode", "decode", "IDLE", None, 0, 0, 0, 0, 0, 0, (None, None), 0, 0, 0, 0, False, "")
    frames = FrameCount(0, 0, {}, 0)
    return Status("api", "OK", [], 0, [stage], [], frames, 0, 0.0, (None, None), streams=list(streams))


def test_a_node_without_a_stream_says_that_it_waits_for_one():
    over = StreamStatus(StreamSpec("a", "in", "out"), "ENDED", "", 1.0, 2.0, None, None, 0.0, FrameCount(0, 0, {}, 0))
    assert [line.plain for line in stream_lines(idle_node())] == ["no stream: waits for a request"]
    assert [line.plain for line in stream_lines(idle_node(over))] == ["no stream: waits for a request"]


def test_a_running_stream_has_a_line_of_its_own():
    frames = FrameCount(12, 10, {"late": 1}, 1)
    stream = StreamStatus(StreamSpec("a", "in", "out"), "ONLINE", "", 1.0, 0.0, 5.0, 9.0, 29.96, frames)
    (line,) = stream_lines(idle_node(stream))
    assert line.plain == "stream a: ONLINE, in -> out, decoded 12, delivered 10, 30.0 fps"
