import re
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given, settings

from pipeline.topology_file import HIDDEN, TopologyFileError, load_topology, without_secrets

ROOT = Path(__file__).resolve().parents[1]
DEMO = (ROOT / "configs/demo.yaml").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_topology_is_right(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if path.name == "comfyui.yaml" and not (ROOT / ".venv-comfyui").exists():
        pytest.skip("no ComfyUI here: make .venv-comfyui/.installed")
    assert load_topology(path).stages


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ("codec: libx264", "codex: libx264", "stages.egress.encoder.codex", "allowed here: codec, preset, bitrate"),
        ("codec: libx264", "codec: h263", "stages.egress.encoder.codec", "allowed: libx264"),
        ("width: 512", "width: wide", "frame.width", "Expected `int`"),
        ("width: 512", "width: 511", "frame.width", "multiple of 2"),
        ("worker: decode", "worker: dekode", "stages.decode.worker", "allowed: ingress, decode, inference, egress"),
        ("output: styled", "output: raw", "stages.inference.output", "two producers, decode and inference"),
        ("input: styled", "input: nope", "stages.egress.input", "allowed: encoded, raw, styled"),
        ("policy: latest", "policy: newest", "links.raw.policy", "allowed: latest, block"),
        ("slots: 6", "slots: 1", "links.raw.slots", ">= 2"),
        ("device: auto", "device: gpu", "device", "allowed: auto, cpu, cuda:N"),
        ("max: 1", "max: 0", "streams.max", ">= 1"),
        ("relay: {port: 5678}", "", "stages.publisher.channel", "add `relay:` or give a full URL"),
        ("bitrate: 1500k", "bitrate: fast", "stages.egress.encoder.bitrate", "bits per second"),
        ("fit: crop", "fit: fill", "frame.fit", "allowed: crop, pad, stretch"),
        ("  styled: {slots", "  raw: {slots", "raw", "given twice"),
        ("worker: egress", "worker: decode", "stages.egress", "allowed"),
        (
            "params: {strength: 3.0, mix: 0.65}",
            "in_flight: 5",
            "stages.inference.processor.in_flight",
            "allowed: 4 at most",
        ),
        ("sink: {trickle: output}", "sink: {trickle: output, text: output}", "stages.egress.sink.text", "another one"),
    ],
)
def test_a_mistake_is_one_line_with_file_line_path_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, where: str, what: str
) -> None:
    assert old in DEMO
    file = tmp_path / "mistake.yaml"
    file.write_text(DEMO.replace(old, new, 1))

    with pytest.raises(TopologyFileError) as caught:
        load_topology(file)

    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file}:")
    line = int(message.removeprefix(f"{file}:").split(":")[0])
    assert 1 <= line <= len(DEMO.splitlines())
    assert f": {where}" in message
    assert what in message


def test_the_line_is_that_of_the_mistake(tmp_path: Path) -> None:
    file = tmp_path / "mistake.yaml"
    file.write_text("name: x\n\nframe:\n  width: 512\n  hight: 512\nstages: {}\n")

    with pytest.raises(TopologyFileError, match=r":5: frame\.hight: unknown key; allowed here: width, height, fit"):
        load_topology(file)


@pytest.mark.parametrize("text", ["[1, 2", "- a\n- b\n", "", "a: b: c"])
def test_what_is_no_topology_at_all_is_said_in_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mistake.yaml"
    file.write_text(text)

    with pytest.raises(TopologyFileError) as caught:
        load_topology(file)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "? [a, b]\n: c\n",
        "name: !!python/object:os.system x\n",
        "name: !!int many\n",
        "name: 2024-13-45\n",
        "stages: &all\n  again: *all\n",
        "name: *nowhere\n",
        "name: x\nname: y\n",
        "5: x\n",
        "\ttabs: x\n",
        'name: "\\x00"\nstages: {}\n',
        "name: x\nstages: []\n",
        "name: x\nstages: {a: }\n",
        "name: x\nstages: {a: {worker: []}}\n",
        "name: x\nstages: {1: {worker: decode, input: a, output: b}}\n",
        "name: x\nstages: {a b: {worker: decode, input: a, output: b}}\n",
        "--- {name: x}\n--- {name: y}\n",
    ],
)
def test_whatever_is_wrong_is_one_line_that_names_the_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mistake.yaml"
    file.write_text(text)

    with pytest.raises(TopologyFileError) as caught:
        load_topology(file)

    assert str(caught.value).startswith(f"{file}:")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"name: \x00"])
def test_what_is_no_text_is_said_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mistake.yaml"
    file.write_bytes(content)

    with pytest.raises(TopologyFileError, match=r"^[^\n]+$"):
        load_topology(file)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "raw", "decode", "1500k", "$", "a.b", "`"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["name", "worker", "slots", "x y", "1"]), inner, max_size=2)
    ),
    max_leaves=3,
)


def _paths(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return []
    return [found for key, inner in value.items() for found in ((*path, key), *_paths(inner, (*path, key)))]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(_paths(yaml.safe_load(DEMO))), VALUES, st.booleans())
def test_any_value_anywhere_is_right_or_one_line(path: tuple[str, ...], value: object, add: bool) -> None:
    raw = yaml.safe_load(DEMO)
    section = raw
    for key in path[:-1]:
        section = section[key]
    section[path[-1] + "x" * add] = value
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "changed.yaml"
        file.write_text(yaml.safe_dump(raw, sort_keys=False))
        try:
            load_topology(file)
        except TopologyFileError as error:
            assert re.fullmatch(rf"{re.escape(str(file))}:\d+: [^\n]+", str(error))  # noqa: PT017


@pytest.mark.parametrize("worker", ["ingress", "decode", "inference", "egress"])
def test_each_kind_of_the_chain_is_needed_once(tmp_path: Path, worker: str) -> None:
    raw = yaml.safe_load(DEMO)
    del raw["stages"][worker]
    file = tmp_path / "mistake.yaml"
    file.write_text(yaml.safe_dump(raw))

    with pytest.raises(TopologyFileError, match=rf"stages: no stage has worker: {worker}"):
        load_topology(file)


@pytest.mark.parametrize("name", ["launcher", "relay", "api"])
def test_a_stage_cannot_have_a_name_that_is_taken(tmp_path: Path, name: str) -> None:
    file = tmp_path / "mistake.yaml"
    file.write_text(DEMO.replace("  recorder:", f"  {name}:"))

    with pytest.raises(TopologyFileError, match=rf"stages\.{name}: this name is taken"):
        load_topology(file)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"stages.egress.input": "raw"}, r"stages\.egress\.input: link 'raw' would have two consumers"),
        ({"links.spare": {}}, r"links\.spare: this link has no producer"),
        ({"stages.ingress.source.file": "x"}, r"stages\.ingress\.source: exactly one of trickle, file"),
        ({"stages.ingress.source": {}}, r"stages\.ingress\.source: exactly one of trickle, file"),
        ({"stages.egress.sink": {}}, r"stages\.egress\.sink: at least one of trickle, file"),
        ({"stages.ingress.source.trickle": "ftp://x/y"}, r"stages\.ingress\.source\.trickle: .*http://"),
        ({"stages.inference.processor.callable": "edges"}, r"processor\.callable: .*module:name"),
        ({"stages.egress.encoder.crf": 52}, r"encoder\.crf: .*<= 51"),
        ({"stages.egress.encoder.bitrate": "1k"}, r"egress\.encoder: a bitrate of 1k is too low; .*10k"),
        ({"stages.egress.encoder.bitrate_floor": "2M"}, r"encoder: bitrate_floor 2M is above bitrate 1500k"),
        ({"stages.egress.encoder": {"crf": 20, "bitrate_floor": "1M"}}, r"bitrate_floor goes with bitrate, not"),
        ({"stages.egress.audio": {"codec": "mp3"}}, r"stages\.egress\.audio\.codec: .*allowed: aac, opus"),
        ({"stages.egress.audio": {"codec": "aac", "bitrate": "1M"}}, r"audio: bitrate 1M must be from 16k to 256k"),
        ({"stages.decode.hardware": "gpu"}, r"stages\.decode\.hardware: .*allowed: cpu, auto"),
        ({"restart.window": 0}, r"restart\.window: .*> 0"),
        ({"name": "a/b"}, r"name: .*up to 32 letters"),
        ({"logs.level": "LOUD"}, r"logs\.level: .*allowed: DEBUG, INFO"),
        ({"logs.stages": {"decode": "LOUD"}}, r"logs\.stages\.decode: .*allowed: DEBUG, INFO"),
        ({"logs.stages": {"decoder": "DEBUG"}}, r"logs\.stages\.decoder: no such stage; allowed: api, decode, "),
        ({"logs.stages": {"decode.1": "DEBUG"}}, r"logs\.stages: 'decode\.1' is no name; allowed: up to 32 letters"),
        ({"logs.format": "xml"}, r"logs\.format: .*allowed: console, json"),
        ({"logs.file": {"path": ""}}, r"logs\.file\.path: .*length >= 1"),
        ({"logs.file": {"path": "a", "max_bytes": 10}}, r"logs\.file\.max_bytes: .*>= 1024"),
        ({"logs.file": {"path": "a", "keep": 0}}, r"logs\.file\.keep: .*>= 1"),
        ({"log_level": "INFO"}, r"log_level: unknown key; allowed here: .*logs"),
        ({"stages.decode.colour": "red"}, r"stages\.decode\.colour: unknown key; allowed here: worker,"),
        ({"colour": "red"}, r"colour: unknown key; allowed here: name, stages"),
    ],
)
def test_what_cannot_be_is_refused_wherever_it_comes_from(overrides: dict, said: str) -> None:
    with pytest.raises(TopologyFileError, match=said):
        load_topology(ROOT / "configs/demo.yaml", overrides)


@pytest.mark.parametrize(
    ("config", "overrides", "said"),
    [
        ("api", {"stages.ingress.source": {"trickle": "in"}}, r"stages\.ingress\.source: .*allowed: no source, or"),
        ("api", {"stages.egress.sink": {"trickle": "out"}}, r"stages\.egress\.sink: .*allowed: no sink, or"),
        ("api", {"stages.egress.sink": {"file": "out.mp4"}}, r"stages\.egress\.sink: .*on_request is on"),
        ("api", {"streams.on_request": False}, r"stages\.ingress\.source: missing; needed: such as source: \{trickle"),
        (
            "demo",
            {"stages.egress.sink": None},
            r"stages\.egress\.sink: missing; needed: .*or streams\.on_request: true",
        ),
        ("demo", {"streams.on_request": True}, r"stages\.ingress\.source: streams\.on_request is on"),
        ("api", {"api.max_upload_bytes": 10}, r"api\.max_upload_bytes: .*1024"),
        ("api", {"streams.while_loading": "drop"}, r"streams\.while_loading: .*allowed: wait, refuse"),
        ("api", {"streams.source_timeout": 0}, r"streams\.source_timeout: .*> 0"),
    ],
)
def test_a_source_and_a_sink_come_from_the_file_or_with_each_stream(config: str, overrides: dict, said: str) -> None:
    with pytest.raises(TopologyFileError, match=said):
        load_topology(ROOT / f"configs/{config}.yaml", overrides)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            {"stages.inference.replicas": 2},
            r"stages\.inference\.replicas: 2 replicas would share 1; allowed: 1 at most, or a larger streams\.max",
        ),
        (
            {"stages.inference.devices": ["cuda:0", "cuda:1"]},
            r"stages\.inference\.devices: 2 replicas would share 1",
        ),
        (
            {"streams.max": 4, "stages.inference.replicas": 1, "stages.inference.devices": ["cpu", "cuda:0"]},
            r"stages\.inference\.devices: 2 devices for 1 replicas; allowed: as many at most",
        ),
        (
            {"streams.max": 2, "stages.inference.devices": ["cuda:0", "cpu"], "frame_memory": "cuda-ipc"},
            r"frame_memory: stages\.inference\.devices has cpu; allowed with it: host",
        ),
        (
            {"streams.max": 2, "stages.inference.processor": {"trickle_app": "a:B"}},
            r"stages\.inference\.processor\.trickle_app: .*streams\.max: 1, or a replica for each of the 2 streams",
        ),
        (
            {"streams.max": 2, "stages.inference.replicas": 2, "stages.inference.processor.batch.max": 2},
            r"stages\.inference\.processor\.batch: needs a process that serves several streams; .*replicas, 2",
        ),
    ],
)
def test_a_pool_of_inference_that_cannot_be_is_refused(overrides: dict, said: str) -> None:
    with pytest.raises(TopologyFileError, match=said):
        load_topology(ROOT / "configs/api.yaml", overrides)


@pytest.mark.parametrize(
    ("overrides", "size"),
    [
        ({}, 1),
        ({"stages.inference.replicas": 3}, 3),
        ({"stages.inference.devices": ["cuda:0", "cuda:1"]}, 2),
        ({"stages.inference.replicas": 4, "stages.inference.devices": ["cuda:0", "cuda:1"]}, 4),
        ({"stages.inference.replicas": 4, "stages.inference.processor": {"trickle_app": "a:B"}}, 4),
    ],
)
def test_there_is_a_replica_for_each_device_unless_their_number_is_named(overrides: dict, size: int) -> None:
    topology = load_topology(ROOT / "configs/api.yaml", {"streams.max": 4} | overrides)
    assert topology.stages["inference"].pool_size == size


@pytest.mark.parametrize(
    ("rate", "bits"), [("1500k", 1_500_000), ("2.5M", 2_500_000), ("800000", 800_000), (64_000, 64_000)]
)
def test_a_bit_rate_may_be_written_as_people_do(rate: object, bits: int) -> None:
    topology = load_topology(ROOT / "configs/demo.yaml", {"stages.egress.encoder.bitrate": rate})
    assert topology.stages["egress"].encoder.bits_per_second == bits


def test_the_floor_of_the_bitrate_is_a_quarter_unless_it_is_named() -> None:
    topology = load_topology(ROOT / "configs/demo.yaml")
    assert topology.stages["egress"].encoder.floor_bits_per_second == 375_000
    topology = load_topology(ROOT / "configs/demo.yaml", {"stages.egress.encoder.bitrate_floor": "500k"})
    assert topology.stages["egress"].encoder.floor_bits_per_second == 500_000


def test_who_is_joined_to_whom_can_be_asked() -> None:
    topology = load_topology(ROOT / "configs/demo.yaml")
    assert (topology.producer_of("raw"), topology.consumer_of("raw")) == ("decode", "inference")
    assert [name for name in topology.links if topology.carries_frames(name)] == ["raw", "styled"]
    assert topology.producer_of("nowhere") is topology.consumer_of("nowhere") is None


def test_a_missing_file_is_named() -> None:
    with pytest.raises(TopologyFileError, match=r"nowhere\.yaml: No such file"):
        load_topology(Path("nowhere.yaml"))


def test_an_override_replaces_a_value_and_is_checked() -> None:
    file = ROOT / "configs/demo.yaml"
    assert load_topology(file, {"relay.port": 0}).relay.port == 0

    with pytest.raises(TopologyFileError, match=r"relay\.port"):
        load_topology(file, {"relay.port": "many"})


def test_a_file_cannot_be_read_by_links_that_skip() -> None:
    with pytest.raises(TopologyFileError, match=r"links\.raw\.policy: .*allowed: block"):
        load_topology(ROOT / "configs/file.yaml", {"links.raw.policy": "latest"})


def test_a_link_that_is_to_have_the_newest_frame_needs_three_slots():
    with pytest.raises(
        TopologyFileError, match=r"links\.raw\.slots: 2 slots cannot hold .*; allowed with policy latest: 3 or more"
    ):
        load_topology(ROOT / "configs/demo.yaml", {"links.raw.slots": 2})
    load_topology(ROOT / "configs/demo.yaml", {"links.raw.slots": 3})
    load_topology(ROOT / "configs/demo.yaml", {"links.styled.slots": 2})


@pytest.mark.parametrize("url", ["http://host:5678/", "http://", "https:///name", "http://host:port/name"])
def test_a_url_that_names_no_channel_is_a_mistake_with_its_key(url):
    with pytest.raises(TopologyFileError, match=r"stages\.ingress\.source\.trickle: .* names no channel; allowed: "):
        load_topology(ROOT / "configs/live.yaml", {"stages.ingress.source.trickle": url})


INVERT = (
    '{"1": {"class_type": "LoadImage", "inputs": {}}, "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}}'
)


@pytest.mark.parametrize(
    ("workflow", "params", "where", "what"),
    [
        (None, {}, "workflow", "No such file or directory"),
        ('{"nodes": [], "links": []}', {}, "workflow", "needed is the API format"),
        ('{"1": {"class_type": "LoadImage"}}', {}, "workflow", "no node takes the result"),
        (INVERT, {"nodes": {"7": {"inputs": {}}}}, "workflow", "nodes.7: no such node"),
        (INVERT, {}, "workspace", "no ComfyUI checkout, it has no execution.py"),
    ],
)
def test_a_mistake_in_a_comfyui_section_is_found_without_its_engine(tmp_path, workflow, params, where, what):
    workspace = tmp_path / "ComfyUI"
    (workspace / "comfy").mkdir(parents=True)
    for name in ("execution.py", "nodes.py", "comfy/cli_args.py") if where == "workflow" else ():
        (workspace / name).touch()
    if workflow is not None:
        (tmp_path / "w.json").write_text(workflow)
    comfyui = {"workspace": str(workspace), "workflow": str(tmp_path / "w.json")}
    with pytest.raises(TopologyFileError, match=rf"stages.inference.processor.comfyui.{where}: .*{what}"):
        load_topology(
            ROOT / "configs/demo.yaml", {"stages.inference.processor": {"comfyui": comfyui, "params": params}}
        )


@pytest.mark.parametrize(
    ("workflow", "what"),
    [
        (INVERT.replace("LoadImage", "EmptyImage"), "ComfyStream refuses"),
        (INVERT.replace("SaveImage", "Nothing"), "no node takes the result"),
    ],
)
def test_a_mistake_in_a_comfystream_section_is_found_without_its_engine(tmp_path, workflow, what):
    (tmp_path / "w.json").write_text(workflow)
    section = {"workspace": str(tmp_path), "workflow": str(tmp_path / "w.json")}
    with pytest.raises(TopologyFileError, match=rf"stages.inference.processor.comfystream.workflow: .*{what}"):
        load_topology(ROOT / "configs/demo.yaml", {"stages.inference.processor": {"comfystream": section}})


@pytest.mark.parametrize("processor", [{}, {"callable": "a:b", "comfyui": {"workspace": "a", "workflow": "b"}}])
def test_a_processor_is_of_one_kind(processor):
    with pytest.raises(TopologyFileError, match=r"stages.inference.processor: exactly one of callable, comfyui"):
        load_topology(ROOT / "configs/demo.yaml", {"stages.inference.processor": processor})


def test_a_slot_that_cannot_hold_the_frame_is_refused():
    with pytest.raises(TopologyFileError, match=r"links.styled.max_frame: 256x256 is less than frame, 512x512"):
        load_topology(ROOT / "configs/demo.yaml", {"links.styled.max_frame": {"width": 256, "height": 256}})


@pytest.mark.parametrize(("every", "said"), [(-1, "Expected `int` >= 0"), ("often", "Expected `int`, got `str`")])
def test_how_many_frames_are_traced_is_a_number(every, said):
    with pytest.raises(TopologyFileError, match=rf"demo\.yaml:\d+: tracing.every: {said}"):
        load_topology(ROOT / "configs/demo.yaml", {"tracing.every": every})


@pytest.mark.parametrize(
    ("tracing", "said"),
    [
        ({"otel": "collector:4318"}, "'collector:4318' is no collector's URL; allowed: such as http://127.0.0.1:4318"),
        ({"otel": "http://c:4318", "every": 0}, "nothing is traced with every: 0"),
        ({"otel": "http://c:4318"}, r"needs no-such-package; run: pip install 'livepipe\[otel\]', or leave otel out"),
    ],
)
def test_a_collector_that_cannot_be_sent_to_is_one_line(monkeypatch, tracing, said):
    monkeypatch.setattr("pipeline.topology_graph.OTEL_PACKAGES", ("no-such-package",))
    with pytest.raises(TopologyFileError, match=rf"demo\.yaml:\d+: tracing.otel: {said}"):
        load_topology(ROOT / "configs/demo.yaml", {"tracing": tracing})


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"stages.ingress.source": {"recording": "no.rec"}}, "source.recording: no.rec: No such file or directory"),
        ({"stages.ingress.source": {"recording": __file__}}, "source.recording: .*is no recording; give a file that"),
        ({"stages.ingress.source": {"recording": "a", "file": "b"}}, "source: exactly one of trickle, file, recording"),
        ({"stages.ingress.source": {"file": "b", "real_time": True}}, "source: real_time is for a recording"),
    ],
)
def test_a_recording_that_cannot_be_fed_is_named(overrides, said):
    with pytest.raises(TopologyFileError, match=rf"demo\.yaml:\d+: stages\.ingress\.{said}"):
        load_topology(ROOT / "configs/demo.yaml", overrides | {"links.raw.policy": "block"})


def test_a_recording_that_is_hurried_is_processed_whole():
    overrides = {"stages.ingress.source": {"recording": str(ROOT / "tests/data/posterize.rec")}}
    with pytest.raises(
        TopologyFileError, match=r"links\.raw\.policy: the source is a recording, which is processed whole"
    ):
        load_topology(ROOT / "configs/demo.yaml", overrides)
    overrides["stages.ingress.source"]["real_time"] = True
    assert load_topology(ROOT / "configs/demo.yaml", overrides).source.is_hurried is False


@pytest.mark.parametrize(
    ("recording", "said"), [({}, "missing key 'file'"), ({"file": ""}, "Expected `str` of length")]
)
def test_what_is_recorded_has_a_file(recording, said):
    with pytest.raises(TopologyFileError, match=rf"demo\.yaml:\d+: recording[.a-z]*: {said}"):
        load_topology(ROOT / "configs/demo.yaml", {"recording": recording})


ELSEWHERE = "https://server.example/out"


@pytest.mark.parametrize(
    ("where", "section", "said"),
    [
        ("egress.sink", {"trickle": ELSEWHERE, "token": "a b"}, r"egress\.sink\.token: no bearer token; allowed: \$"),
        ("egress.sink", {"trickle": "output", "token": "${T}"}, r"egress\.sink\.token: no channel here is on another"),
        ("ingress.source", {"file": "a.ts", "token": "${T}"}, r"ingress\.source\.token: no channel here is on another"),
        (
            "egress.sink",
            {"trickle": "output", "tls": {"ca": "a"}},
            r"egress\.sink\.tls: no channel here is reached over",
        ),
        (
            "egress.sink",
            {"trickle": "http://h/out", "tls": {"ca": "a"}},
            r"egress\.sink\.tls: .*; allowed: with an https:// URL",
        ),
        ("egress.sink", {"trickle": ELSEWHERE, "tls": {}}, r"egress\.sink\.tls: ca is needed, or certificate and key"),
        (
            "egress.sink",
            {"trickle": ELSEWHERE, "tls": {"certificate": "a.pem"}},
            r"egress\.sink\.tls: certificate and key go together",
        ),
        (
            "egress.sink",
            {"trickle": ELSEWHERE, "tls": {"ca": "no/such.pem"}},
            r"egress\.sink\.tls\.ca: no/such\.pem: No such file or directory; allowed: a PEM file",
        ),
        (
            "egress.sink",
            {"trickle": ELSEWHERE, "tls": {"ca": __file__}},
            r"egress\.sink\.tls\.ca: .*: holds no certificate in PEM form",
        ),
        (
            "egress.sink",
            {"trickle": ELSEWHERE, "tls": {"cert": "a"}},
            r"egress\.sink\.tls\.cert: unknown key; .* ca, cert",
        ),
    ],
)
def test_a_token_or_tls_that_makes_no_sense_is_named_with_its_key(
    where: str, section: dict[str, object], said: str
) -> None:
    overrides = {f"stages.{where}": section, "links.raw.policy": "block"}
    with pytest.raises(TopologyFileError, match=rf"^[^\n]*demo\.yaml:\d+: stages\.{said}"):
        load_topology(ROOT / "configs/demo.yaml", overrides)


def test_a_token_goes_with_the_one_of_two_channels_that_is_elsewhere() -> None:
    recorder = {"worker": "recorder", "channel": "output", "compare": ELSEWHERE, "file": "a.mp4", "token": "${T}"}
    assert load_topology(ROOT / "configs/demo.yaml", {"stages.recorder": recorder})


def test_a_token_that_stands_in_the_file_is_not_shown_and_is_in_no_error() -> None:
    secret = "a-token-for-tests"
    relay = {"publish_tokens": [secret, "${OTHER}"], "subscribe_tokens": [secret]}
    sink = {"trickle": ELSEWHERE, "token": secret}
    topology = load_topology(ROOT / "configs/demo.yaml", {"relay": relay, "stages.egress.sink": sink})
    shown = without_secrets(topology)
    assert secret not in str(shown)
    assert shown["relay"]["publish_tokens"] == [HIDDEN, "${OTHER}"]
    assert (shown["stages"]["egress"]["sink"]["token"], shown["stages"]["ingress"]["source"]["token"]) == (HIDDEN, None)
    with pytest.raises(TopologyFileError) as mistake:
        load_topology(ROOT / "configs/demo.yaml", {"stages.egress.sink": {**sink, "token": f"{secret} and more"}})
    assert secret not in str(mistake.value)
