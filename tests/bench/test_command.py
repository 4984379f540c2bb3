"""The command as a user types it: mistakes, reports that are there already, the page."""

import os
import re
import signal
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

import launcher
from pipeline.bench import command
from pipeline.bench.benched import INPUT, OUTPUT, benched
from pipeline.bench.compare import compare
from pipeline.bench.html_report import html_report
from pipeline.bench.report import ReportFileError, read_report, write_report
from pipeline.shipped import find_topology, shipped_names
from pipeline.topology import Egress, Ingress
from pipeline.topology_file import load_topology


def run(capsys, *arguments):
    code = launcher.main(["bench", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.fixture
def reports(tmp_path, make_report):
    """Three files: a report, a slower one, and one of another version."""
    files = tmp_path / "old.json", tmp_path / "new.json", tmp_path / "future.json"
    write_report(files[0], make_report())
    write_report(files[1], make_report(rates=[30.0, 31.0, 32.0]))
    write_report(files[2], make_report(version=99))
    return files


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--seconds", "0"], "--seconds 0: needed: 1 to 600"),
        (["--repeats", "0"], "--repeats 0: needed: 1 to 100"),
        (["--kills", "-1"], "--kills -1: needed: 0 to 100"),
        (["--max-fps", "5000"], "--max-fps 5000: needed: 1 to 1000"),
        (["--size", "1280"], "--size 1280: needed: WIDTHxHEIGHT"),
        (["--size", "1280x721"], "--size 1280x721: needed: WIDTHxHEIGHT"),
        (["--fail-if-worse"], "--fail-if-worse goes with --against"),
        (["--json", "nowhere/at/all.json"], "--json nowhere/at/all.json: there is no folder nowhere/at"),
        (["--against", "nowhere.json"], "nowhere.json: No such file or directory"),
        (["--set", "frame.width=511"], "frame.width"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_starts(capsys, arguments, why):
    code, out, err = run(capsys, "demo", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert why in err


def test_a_report_of_another_version_or_none_at_all_is_refused(capsys, reports, tmp_path):
    code, _, err = run(capsys, reports[0], "--against", reports[2])
    assert (code, err) == (2, f"{reports[2]}: a report of version 99; this program reads version 1\n")
    (tmp_path / "else.json").write_text("[1, 2]")
    with pytest.raises(ReportFileError, match="no report of `bench --json`"):
        read_report(tmp_path / "else.json")


def test_two_reports_are_compared_without_a_run(capsys, reports):
    code, out, err = run(capsys, reports[1], "--against", reports[0])
    assert (code, err) == (0, "")
    assert "worse" in out
    assert run(capsys, reports[1], "--against", reports[0], "--fail-if-worse")[0] == 1
    assert run(capsys, reports[0], "--against", reports[1], "--fail-if-worse")[0] == 0


def test_a_report_is_what_was_written(reports, make_report):
    assert read_report(reports[0]) == make_report()


class Page(HTMLParser):
    """Fails on a tag that is not closed, and knows what the page would load."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.counts = [], [], {}

    def handle_starttag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.loads += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "circle", "line", "polyline", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag):
        if tag in ("circle", "rect"):
            return
        assert self.open.pop() == tag, f"</{tag}> closes something else"


def test_the_page_is_one_file_with_plots_and_loads_nothing(make_report):
    old, new = make_report(), make_report(rates=[30.0, 31.0, 32.0])
    text = html_report(new, compare(old, new))
    page = Page()
    page.feed(text)
    assert (page.open, page.loads) == ([], [])
    assert page.counts["svg"] >= 6
    assert page.counts["circle"] > 20
    assert "url(" not in text
    assert "&lt;late&gt;" in text, "what the pipeline says is text"
    assert "<late>" not in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"\bnan\b|\binf\b", text)


def test_a_report_of_nothing_is_a_page_too(make_report):
    nothing = make_report(rates=[], latencies=[], recoveries=[], most_streams=None, interrupted=True)
    text = html_report(nothing)
    assert "Nothing was measured" in text
    assert "interrupted" in text


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_topology_is_benched_between_channels_of_its_own(name, tmp_path):
    topology = load_topology(find_topology(Path(name)))
    found = benched(topology)
    (tmp_path / "benched.yaml").write_text(found.text)
    again = load_topology(tmp_path / "benched.yaml")
    assert again.relay is not None
    assert (again.relay.port, again.api) == (0, None)
    kinds = [type(stage).__name__ for stage in again.stages.values()]
    assert kinds == ["Ingress", "Decode", "Inference", "Egress"]
    for before, after in ((topology.stages[key], again.stages[key]) for key in again.stages):
        if isinstance(after, Ingress) and not found.on_request:
            assert after.source is not None
            assert after.source.trickle == INPUT
        if isinstance(after, Egress) and not found.on_request:
            assert after.sink is not None
            assert (after.sink.trickle, after.sink.file) == (OUTPUT, None)
            assert after.encoder == before.encoder
    assert again.links == topology.links


def test_only_the_command_itself_imports_what_it_takes(monkeypatch):
    import subprocess
    import sys

    code = "import launcher, sys; print([m for m in sys.modules if m.startswith('pipeline.bench.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['pipeline.bench.options']\n"


def test_what_was_typed_is_in_the_report(capsys, reports, monkeypatch, make_report):
    seen = []
    monkeypatch.setattr(command, "bench", lambda options, load, typed: seen.append(typed) or 0)
    monkeypatch.setattr("sys.argv", ["launcher.py", "bench", "my file.yaml"])
    assert launcher.main(["bench", "my file.yaml"]) == 0
    assert seen == ["livepipe bench 'my file.yaml'"]


class Interrupted:
    """A benchmark during which somebody presses Ctrl-C, or ends it in another way."""

    warnings = ("the machine is not idle",)

    def __init__(self, made, how):
        self._made, self._how = made, how

    def __call__(self, *_):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def run(self):
        os.kill(os.getpid(), self._how)
        time.sleep(10)

    def report(self, **said):
        return self._made(recoveries=[], **said)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_keeps_what_was_measured(how, capsys, monkeypatch, tmp_path, make_report):
    monkeypatch.setattr(command, "Bench", Interrupted(make_report, how))
    code, out, err = run(capsys, "demo", "--json", tmp_path / "r.json", "--report", tmp_path / "r.html")
    assert code == 130
    assert "holds 61 fps" in out
    assert "warning: the machine is not idle" in err
    assert "interrupted: this is what was measured before" in err
    assert read_report(tmp_path / "r.json").interrupted
    assert "The run was interrupted" in (tmp_path / "r.html").read_text()
