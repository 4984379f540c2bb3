from pathlib import Path

import pytest

from pipeline.topology_file import TopologyFileError, load_topology

ROOT = Path(__file__).resolve().parents[1]
DEMO = (ROOT / "configs/demo.yaml").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_topology_is_right(path: Path) -> None:
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
