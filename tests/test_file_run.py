"""What the options for files make of a topology, and the one line for each mistake."""

from pathlib import Path

import msgspec
import pytest

from pipeline.file_run import FileRun, unfinished
from pipeline.media.container_file import ContainerFile
from pipeline.media.excerpt import FIRST_PTS
from pipeline.media.file_source import TsFileSource
from pipeline.media.pattern import write_pattern
from pipeline.topology_file import TopologyFileError, load_topology
from pipeline.topology_sections import Recording

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def topology():
    return load_topology(ROOT / "configs/file.yaml")


@pytest.fixture
def clip(tmp_path):
    write_pattern(tmp_path / "clip.ts", 192, 108, seconds=2)
    return tmp_path / "clip.ts"


def refusal(topology, **asked):
    with pytest.raises(TopologyFileError) as caught:
        FileRun(**asked).apply(topology)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_input_output_and_excerpt_go_into_the_topology(topology, clip, tmp_path):
    asked = FileRun(input=clip, output=tmp_path / "new" / "out.mkv", start=0.5, duration=1.0)
    made = asked.apply(topology)
    source = made.stages["ingress"].source
    assert (source.file, source.start, source.duration) == (str(clip), 0.5, 1.0)
    assert made.stages["egress"].sink.file == str(tmp_path / "new" / "out.mkv")
    assert (tmp_path / "new").is_dir()
    assert {link.policy for link in made.links.values()} == {"block"}


def test_nothing_asked_for_changes_nothing(topology):
    assert FileRun().apply(topology) == topology


def test_mistakes_are_named_with_the_option(topology, clip, tmp_path):
    assert refusal(topology, input=tmp_path / "none.mp4") == f"--input {tmp_path}/none.mp4: no such file"
    assert "is a directory" in refusal(topology, input=tmp_path)
    (tmp_path / "empty.mp4").touch()
    assert refusal(topology, input=tmp_path / "empty.mp4").endswith("is empty")
    assert "allowed: .mp4, .mov, .mkv, .ts" in refusal(topology, output=tmp_path / "out.xyz")
    assert "give a file name in it" in refusal(topology, output=tmp_path)
    assert "cannot make the folder" in refusal(topology, output=clip / "below" / "out.mp4")
    assert "is what ingress reads" in refusal(topology, input=clip, output=clip)
    assert refusal(topology, input=clip, start=-1.0).startswith("--start: Expected `float` >= 0.0")
    assert refusal(topology, input=clip, duration=0.0).startswith("--duration: Expected `float` > 0.0")


def test_a_topology_that_plays_a_file_live_has_no_excerpt(clip):
    demo = load_topology(ROOT / "configs/demo.yaml")
    assert "needed is a topology that reads one" in refusal(demo, start=1.0)
    assert FileRun(input=clip).apply(demo).stages["publisher"].file == str(clip)


def written(path, clip, keep):
    """An output that was interrupted behind `keep` chunks of the clip."""
    with ContainerFile(str(path), lambda _: None) as file:
        for chunk, _ in zip(TsFileSource(clip), range(keep), strict=False):
            file.write(chunk.data)


def test_resuming_begins_behind_the_last_picture_that_counts(topology, clip, tmp_path):
    out = tmp_path / "out.mp4"
    written(out, clip, 60)
    assert unfinished(FileRun(output=out).apply(topology)) == tmp_path / "out.mp4.part.ts"
    made = FileRun(input=clip, output=out, duration=1.9, resume=True).apply(topology)
    with ContainerFile(str(out), lambda _: None, append=True) as file:
        last = file.tail.video_pts
    excerpt = made.excerpt
    assert excerpt.first == last + 1
    assert excerpt.end == FIRST_PTS + 171_000
    assert made.stages["egress"].sink.resume


def test_what_cannot_be_resumed_is_said(topology, clip, tmp_path):
    out = tmp_path / "out.mp4"
    fresh = FileRun(input=clip, output=out, resume=True).apply(topology)
    assert not fresh.stages["egress"].sink.resume, "there is nothing yet: it is begun"
    out.touch()
    assert "is finished" in refusal(topology, input=clip, output=out, resume=True)
    written(out, clip, 30)
    assert "it is of another run" in refusal(topology, input=clip, output=out, start=1.5, resume=True)


def test_a_recording_goes_into_the_topology_and_stays_there_at_a_reload(topology, tmp_path):
    asked = FileRun(record=tmp_path / "a.rec")
    made = asked.apply(topology)
    (tmp_path / "a.rec").write_text("begun")
    assert asked.apply(topology) == made
    assert made.recording.file == str(tmp_path / "a.rec")


def test_the_limits_of_the_files_recording_hold_for_another_file(topology, tmp_path):
    limited = msgspec.structs.replace(topology, recording=Recording(file="b.rec", seconds=5.0))
    made = FileRun(record=tmp_path / "a.rec").apply(limited)
    assert (made.recording.file, made.recording.seconds) == (str(tmp_path / "a.rec"), 5.0)


def test_streams_on_request_can_be_recorded(tmp_path):
    node = load_topology(ROOT / "configs/api.yaml")
    assert FileRun(record=tmp_path / "a.rec").apply(node).recording is not None
