"""What a replay makes of a recorded topology, and what is wrong with asking for one. That it runs: `integration`."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.recording.format import Header, RecordingError, RecordingWriter
from pipeline.replay import ReplayError, replay, replay_topology
from pipeline.topology_file import TopologyFileError, load_topology, without_secrets

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def recorded(folder: Path, config: str = "demo.yaml", **overrides: Any) -> Path:
    path = folder / "a.rec"
    topology = without_secrets(load_topology(CONFIGS / config, overrides))
    writer = RecordingWriter(path)
    writer.write(Header("demo", "main", 0, 1.0, 1, {}, topology))
    writer.close()
    return path


def header(folder: Path, config: str = "demo.yaml", **overrides: Any) -> tuple[Header, Path]:
    path = recorded(folder, config, **overrides)
    return Header("demo", "main", 0, 1.0, 1, {}, without_secrets(load_topology(CONFIGS / config, overrides))), path


def test_nothing_of_the_replay_reaches_the_outside(tmp_path: Path) -> None:
    log = {"path": str(tmp_path / "a.log")}
    made, path = header(tmp_path, **{"relay.publish_tokens": ["a-token-for-tests"], "logs.file": log})
    changed, left_out = replay_topology(made, path, tmp_path / "out.ts")
    assert left_out == []
    assert (changed["relay"], changed["api"], changed["recording"]) == (None, None, None)
    assert changed["logs"]["file"] is None
    assert changed["stages"].keys() == {"ingress", "decode", "inference", "egress"}
    assert changed["stages"]["ingress"]["source"]["recording"] == str(path)
    assert changed["stages"]["egress"]["sink"]["file"] == str(tmp_path / "out.ts")
    assert changed["stages"]["inference"]["processor"] == made.topology["stages"]["inference"]["processor"]


@pytest.mark.parametrize(("speed", "policy", "real_time"), [("max", "block", False), ("1", "latest", True)])
def test_as_fast_as_it_goes_every_frame_is_processed(tmp_path: Path, speed: Any, policy: str, real_time: bool) -> None:
    made, path = header(tmp_path)
    changed, _ = replay_topology(made, path, tmp_path / "out.ts", speed)
    assert changed["links"]["raw"]["policy"] == policy
    assert changed["stages"]["ingress"]["source"]["real_time"] == real_time


def test_a_stream_on_request_is_replayed_as_one_of_its_own(tmp_path: Path) -> None:
    made, path = header(tmp_path, "api.yaml")
    assert replay_topology(made, path, tmp_path / "out.ts")[0]["streams"]["on_request"] is False


def test_values_can_be_replaced_and_another_topology_used(tmp_path: Path) -> None:
    made, path = header(tmp_path)
    processor = "stages.inference.processor.callable"
    changed, _ = replay_topology(made, path, tmp_path / "out.ts", overrides={processor: "a.module:other"})
    assert changed["stages"]["inference"]["processor"]["callable"] == "a.module:other"
    other, _ = replay_topology(made, path, tmp_path / "out.ts", topology=CONFIGS / "live.yaml")
    assert other["stages"]["inference"]["processor"]["params"] == {"levels": 5}
    assert other["stages"]["ingress"]["source"]["trickle"] is None


def test_what_a_recording_of_another_version_says_more_is_left_out_and_told(tmp_path: Path) -> None:
    made, path = header(tmp_path)
    made.topology["log_level"] = "INFO"  # About the outside, and of no concern.
    made.topology["frame"]["depth"] = 10
    made.topology["stages"]["egress"]["encoder"]["colour"] = "bt709"
    made.topology["links"]["raw"]["fast"] = True
    changed, left_out = replay_topology(made, path, tmp_path / "out.ts")
    assert sorted(left_out) == ["frame.depth", "links.raw.fast", "stages.egress.encoder.colour"]
    assert changed["frame"]["width"] == 512


def test_a_value_that_is_not_allowed_names_the_recording_and_the_key(tmp_path: Path) -> None:
    with pytest.raises(TopologyFileError, match=r"^topology of .*a\.rec: frame\.width: Expected"):
        replay(recorded(tmp_path), overrides={"frame.width": 511})


def test_an_output_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = recorded(tmp_path)
    with pytest.raises(ReplayError, match=r"a\.rec: is there already"):
        replay(path, output=path)


def test_a_video_of_no_known_kind_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReplayError, match=r"^cannot write '.*a\.avi': no container is named \.avi; allowed: \.mp4"):
        replay(recorded(tmp_path), video=tmp_path / "a.avi")


def test_what_is_no_recording_is_not_replayed_or_compared_with(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="is no recording"):
        replay(CONFIGS / "demo.yaml")
    with pytest.raises(RecordingError, match="is no recording"):
        replay(recorded(tmp_path), against=CONFIGS / "demo.yaml")
