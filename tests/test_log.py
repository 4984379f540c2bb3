import logging

import msgspec
import pytest

from pipeline import log


@pytest.fixture
def lines():
    written = []
    log.configure("INFO", write=written.append)
    yield written
    logging.getLogger("livepipe").handlers.clear()


def test_an_event_is_a_name_and_its_fields(lines):
    log.warning("decode_failed", stage="decode", seq=812)
    assert lines[0].split(" ", 1)[1] == "WARNING decode_failed stage=decode seq=812"


def test_values_with_spaces_are_quoted_and_fractions_are_short(lines):
    log.info("ready", detail="edges on cpu", seconds=1.23456)
    assert lines[0].endswith('ready detail="edges on cpu" seconds=1.235')


def test_a_value_never_breaks_the_line(lines):
    log.error("processor_error", problem="RuntimeError: no\nsuch layer")
    assert "\n" not in lines[0]


def test_what_is_below_the_level_is_not_written():
    written = []
    log.configure("ERROR", write=written.append)
    log.info("started")
    log.warning("late")
    log.error("failed")
    assert [line.split()[1:] for line in written] == [["ERROR", "failed"]]


def test_configuring_again_replaces_the_writer(lines):
    again = []
    log.configure("INFO", write=again.append)
    log.info("started")
    assert (len(lines), len(again)) == (0, 1)


def test_workers_write_to_standard_error_without_a_stamp(capsys):
    log.configure("INFO")
    log.info("started", pid=1)
    assert capsys.readouterr().err == "INFO started pid=1\n"


def test_a_worker_writes_records_for_the_launcher(capsys):
    log.configure_worker("INFO")
    log.warning("sink.disconnected", error=ValueError("no\nroute"), seq=3, share=0.5, late=True, why=None)
    log.debug("unseen")
    mark, text = capsys.readouterr().err.encode().split(b"{", 1)
    assert mark == log.RECORD_MARK
    record = msgspec.json.decode(b"{" + text, type=log.Record)
    fields = {"error": "no\nroute", "seq": 3, "share": 0.5, "late": True, "why": None}
    assert record == log.Record("WARNING", "sink.disconnected", fields)


def test_a_field_may_have_any_name(lines):
    log.info("odd", event="a", level="b", fields="c")
    assert lines[0].endswith("INFO odd event=a level=b fields=c")


def test_what_a_record_carries_is_bounded(capsys):
    log.configure_worker("INFO")
    log.error("api.request_failed", trace="x" * 10**6)
    assert len(capsys.readouterr().err) < 10_000


def test_the_level_can_change(lines):
    log.set_level("DEBUG")
    log.debug("segment_read", seq=1)
    assert lines[0].endswith("DEBUG segment_read seq=1")
    log.set_level("ERROR")
    assert not log.is_wanted("WARNING")


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="LOUD"):
        log.configure("LOUD")
