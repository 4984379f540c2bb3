"""What a request for a stream may say: each mistake is named with its field and what is allowed."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.status import StreamSpec
from pipeline.stream_requests import problem_of, size_of, written_twice
from pipeline.topology import Topology
from pipeline.topology_file import load_topology

API = Path(__file__).resolve().parents[1] / "configs/api.yaml"
RIGHT = {"stream": "a", "subscribe_url": "in", "publish_url": "http://127.0.0.1:1/out"}


def topology(**overrides: Any) -> Topology:
    """In the names, __ is a dot."""
    return load_topology(API, {key.replace("__", "."): value for key, value in overrides.items()})


def test_names_and_urls_and_sizes_that_fit_are_right() -> None:
    assert problem_of(StreamSpec(**RIGHT), topology()) == ""
    assert problem_of(StreamSpec(**RIGHT, width=512, height=256, params={"x": 1}), topology()) == ""
    assert problem_of(StreamSpec(**RIGHT, width=1024, height=256), topology()) == ""
    assert problem_of(StreamSpec(**RIGHT, events_url="https://server.example/events"), topology()) == ""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"stream": ""}, "stream: '' is no id; allowed: 1 to 128 printable characters"),
        ({"stream": "a\nb"}, "stream: 'a\\nb' is no id"),
        ({"stream": "a" * 129}, "is no id"),
        ({"subscribe_url": ""}, "subscribe_url: missing; allowed: a name on the embedded relay, http://"),
        ({"publish_url": ""}, "publish_url: missing; allowed: a name"),
        ({"subscribe_url": "ftp://x/y"}, "subscribe_url: 'ftp://x/y' is no trickle channel; allowed: a name, http://"),
        ({"publish_url": "http://server.example"}, "publish_url: 'http://server.example' names no channel; allowed:"),
        ({"publish_url": "http://server.example:port/x"}, "publish_url: 'http://server.example:port/x' names no"),
        ({"publish_url": "//"}, "publish_url: '//' names no channel; allowed: a name"),
        (
            {"subscribe_url": "two words"},
            "subscribe_url: 'two words' is no trickle channel; allowed: a name or URL wit",
        ),
        ({"events_url": "mailto://x"}, "events_url: 'mailto://x' is no trickle channel"),
        ({"publish_url": "in"}, "publish_url: 'in' is subscribe_url too; allowed: any other channel"),
        ({"publish_url": "in/"}, "publish_url: 'in/' is subscribe_url too"),
        ({"data_url": "http://localhost:1/out/"}, "data_url: 'http://localhost:1/out/' is publish_url too; allowed:"),
        ({"data_url": "d", "events_url": "/d"}, "events_url: '/d' is data_url too"),
        ({"width": 0}, "width: 0 is no size of a frame; allowed: even numbers from 16 to 8192"),
        ({"height": 255}, "height: 255 is no size of a frame"),
        ({"height": 9000}, "height: 9000 is no size of a frame"),
        (
            {"width": 1280, "height": 720},
            "width, height: 1280x720 does not fit into the slots of link raw; allowed: as many pixels as 512x512",
        ),
    ],
)
def test_a_mistake_names_its_field_and_what_is_allowed(fields: dict[str, Any], said: str) -> None:
    problem = problem_of(StreamSpec(**(RIGHT | fields)), topology())
    assert said in problem
    assert "\n" not in problem


def test_larger_slots_take_larger_frames() -> None:
    spec = StreamSpec(**RIGHT, width=1280, height=720)
    large = {"width": 1280, "height": 720}
    assert "link styled" in problem_of(spec, topology(links__raw__max_frame=large))
    assert problem_of(spec, topology(links__raw__max_frame=large, links__styled__max_frame=large)) == ""


def test_a_name_needs_a_relay_that_will_have_it() -> None:
    spec = StreamSpec(**RIGHT)
    assert "add `relay:` or give a full URL" in problem_of(spec, topology(relay=None))
    closed = topology(relay={"autocreate": False, "channels": {"known": "video/MP2T"}})
    assert "add it to relay.channels" in problem_of(spec, closed)
    assert problem_of(StreamSpec(**(RIGHT | {"subscribe_url": "known"})), closed) == ""


def test_the_size_is_the_topologys_where_the_request_names_none() -> None:
    assert size_of(StreamSpec(**RIGHT), topology()) == (512, 512)
    assert size_of(StreamSpec(**RIGHT, height=256), topology()) == (512, 256)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"publish_url": "out"}, "publish_url: a writes it; allowed: another"),
        ({"publish_url": "out/"}, "publish_url: a writes it"),
        ({"publish_url": "http://127.0.0.1:9000/out"}, "publish_url: a writes it"),
        ({"data_url": "http://127.0.0.1:9000/out/"}, "data_url: a writes it"),
        ({"events_url": "https://SERVER.example:443/words"}, "events_url: a writes it"),
        ({"publish_url": "http://server.example/words"}, ""),
        ({"publish_url": "other"}, ""),
    ],
)
def test_a_channel_has_one_writer_however_it_is_spelt(fields: dict[str, Any], said: str) -> None:
    running = StreamSpec("a", "in", "out", data_url="https://server.example/words")
    spec = StreamSpec(**({"stream": "b", "subscribe_url": "in", "publish_url": "b-out"} | fields))
    found = written_twice(spec, [running], "http://127.0.0.1:9000")
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_parameters_are_what_json_has() -> None:
    assert problem_of(StreamSpec(**RIGHT, params={"x": {None: 1}}), topology()).startswith("params: ")  # type: ignore[dict-item]
