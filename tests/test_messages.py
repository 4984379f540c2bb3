import msgspec
import pytest

from pipeline.boot import FrameFormat
from pipeline.messages import (
    Abandon,
    Activate,
    AudioFormat,
    AudioMessage,
    AudioPacket,
    Drain,
    EncodedAttach,
    EncodedBytes,
    EncodedConsumed,
    EncodedDown,
    EncodedEnd,
    EncodedUp,
    Event,
    Finished,
    PeerRestarted,
    PlanRequest,
    Ready,
    Refused,
    RestartRequest,
    StatusRequest,
    Subscribe,
    ToLauncher,
    ToWorker,
)
from pipeline.status import FrameCount


def test_the_frame_equation_tells_when_a_frame_is_unaccounted_for() -> None:
    assert FrameCount(decoded=10, delivered=7, dropped={"late": 1, "crash": 1}, in_flight=1).balanced
    assert not FrameCount(decoded=10, delivered=7, dropped={"late": 1}, in_flight=1).balanced


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (EncodedDown, EncodedBytes(3, 1316, 5, True, False, b"\x47")),
        (EncodedDown, EncodedEnd()),
        (EncodedUp, EncodedAttach(-1)),
        (EncodedUp, EncodedConsumed(1 << 62)),
        (AudioMessage, AudioFormat("opus", 1)),
        (AudioMessage, AudioPacket(-1920, b"\xff\xf1")),
        (ToLauncher, Ready("decode", 1, "on cpu")),
        (ToLauncher, Event("decode", "info", "first_frame", {"seq": 0, "seconds": 0.5, "url": "x"})),
        (ToLauncher, Finished("decode", 1)),
        (ToLauncher, Refused("decode", 1, "no such device")),
        (ToLauncher, StatusRequest()),
        (ToLauncher, PlanRequest()),
        (ToLauncher, RestartRequest("decode")),
        (ToLauncher, Subscribe()),
        (ToWorker, Drain()),
        (ToWorker, Abandon()),
        (ToWorker, Activate()),
        (ToWorker, PeerRestarted("out", "egress")),
    ],
)
def test_every_message_is_told_from_the_others_on_its_line(line: type, message: msgspec.Struct) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=line) == message


@pytest.mark.parametrize("line", [EncodedDown, EncodedUp, AudioMessage, ToLauncher, ToWorker])
@pytest.mark.parametrize("junk", [b"", b"\xc1", b"\x80", b"\x90", msgspec.msgpack.encode(["bytes"])])
def test_junk_is_an_error_and_no_message(line: type, junk: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.msgpack.decode(junk, type=line)


def test_a_frame_is_three_bytes_a_pixel() -> None:
    assert FrameFormat(512, 288).nbytes == 442_368
