import msgspec

from pipeline.messages import Descriptor, FrameCount

DESCRIPTOR = Descriptor(
    "raw", 3, 41, "main", 0, 812, 73_080_000, (1, 90_000), (512, 512, 3), "uint8", "rgb", 12_345, 67_890
)


def test_a_descriptor_comes_back_as_it_was_and_is_small() -> None:
    wire = msgspec.msgpack.encode(DESCRIPTOR)

    assert msgspec.msgpack.decode(wire, type=Descriptor) == DESCRIPTOR
    assert len(wire) < 100


def test_the_frame_equation_tells_when_a_frame_is_unaccounted_for() -> None:
    assert FrameCount(decoded=10, delivered=7, dropped={"late": 1, "crash": 1}, in_flight=1).balanced
    assert not FrameCount(decoded=10, delivered=7, dropped={"late": 1}, in_flight=1).balanced
