import av
import numpy as np

from pipeline.media.blockcode import read_index
from pipeline.media.still import decode_first_frame, find_frame, write_side_by_side


def test_the_first_picture_of_a_segment_is_found(pattern, demux):
    ts = pattern(seconds=1)
    pts, rgb = decode_first_frame(ts)
    assert pts == demux(ts).video[0].pts
    assert rgb.shape == (180, 320, 3)
    assert read_index(rgb).index == 0


def test_a_picture_is_found_by_its_time(pattern, demux):
    ts = pattern()
    units = demux(ts).video
    assert read_index(find_frame([ts], units[77].pts)).index == 77
    assert read_index(find_frame([ts], units[77].pts + 5, tolerance=5)).index == 77
    assert find_frame([ts], units[77].pts + 5) is None


def test_bytes_without_a_picture_have_no_first_one():
    assert decode_first_frame(b"nothing here" * 100) is None


def test_two_pictures_are_written_side_by_side_at_one_height(tmp_path):
    path = tmp_path / "both.png"
    left, right = np.full((100, 160, 3), (255, 0, 0), np.uint8), np.full((50, 50, 3), (0, 0, 255), np.uint8)
    write_side_by_side(path, left, right)
    with av.open(str(path)) as container:
        rgb = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert rgb.shape == (100, 260, 3)
    assert (rgb[:, :160] == (255, 0, 0)).all()
    assert (np.abs(rgb[:, 160:].astype(int) - (0, 0, 255)) <= 1).all()
    assert [entry.name for entry in tmp_path.iterdir()] == ["both.png"]
