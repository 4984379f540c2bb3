import pytest
import zmq

from pipeline.audio_link import MAX_QUEUED_PACKETS, AudioReader, AudioWriter
from pipeline.messages import AudioFormat, AudioPacket, TextLine

AAC = AudioFormat("aac", 2)
OPUS = AudioFormat("opus", 1)


@pytest.fixture
def endpoint(short_dir):
    return f"ipc://{short_dir}/audio"


@pytest.fixture
def writer(open_context, endpoint):
    writer = AudioWriter(endpoint, open_context())
    yield writer
    writer._socket.set(zmq.LINGER, 0)  # Nobody may be there to take the rest.
    writer.close()


def read(reader, count):
    heard = []
    while len(heard) < count:
        reader._socket.poll()
        heard += reader.read()
    return heard


def test_formats_and_packets_arrive_in_order(open_context, endpoint, writer):
    reader = AudioReader(endpoint, open_context())
    writer.announce(AAC)
    writer.write(1920, b"one")
    writer.write(3840, b"two")
    assert read(reader, 3) == [AAC, AudioPacket(1920, b"one"), AudioPacket(3840, b"two")]
    assert writer.dropped == 0


def test_a_format_is_announced_when_it_changes_and_only_then(open_context, endpoint, writer):
    reader = AudioReader(endpoint, open_context())
    for form in (AAC, AAC, OPUS, OPUS, AAC):
        writer.announce(form)
    writer.write(0, b"end")
    assert read(reader, 4) == [AAC, OPUS, AAC, AudioPacket(0, b"end")]


def test_reading_does_not_wait(open_context, endpoint):
    assert list(AudioReader(endpoint, open_context()).read()) == []


def test_a_writer_may_be_there_before_its_reader(open_context, endpoint, writer):
    writer.announce(AAC)
    writer.write(0, b"early")
    assert read(AudioReader(endpoint, open_context()), 2) == [AAC, AudioPacket(0, b"early")]


def test_a_successor_of_the_reader_is_told_the_format_again(open_context, endpoint, writer):
    first_life = open_context()
    writer.announce(OPUS)
    assert read(AudioReader(endpoint, first_life), 1) == [OPUS]
    first_life.destroy(linger=0)
    reader = AudioReader(endpoint, open_context())
    writer.repeat_format()
    writer.write(7, b"next")
    assert read(reader, 2) == [OPUS, AudioPacket(7, b"next")]


def test_there_is_nothing_to_repeat_before_the_first_format(open_context, endpoint, writer):
    reader = AudioReader(endpoint, open_context())
    writer.repeat_format()
    writer.write(7, b"x")
    assert read(reader, 1) == [AudioPacket(7, b"x")]


@pytest.mark.timeout(20)
def test_what_nobody_takes_is_dropped_and_counted(writer):
    total = 2 * MAX_QUEUED_PACKETS
    for i in range(total):
        writer.write(i, b"x")
    assert writer.dropped == total - MAX_QUEUED_PACKETS


def test_a_format_that_did_not_fit_is_announced_again(open_context, endpoint, writer):
    for i in range(MAX_QUEUED_PACKETS):
        writer.write(i, b"x")
    writer.announce(AAC)
    assert writer.dropped == 1
    reader = AudioReader(endpoint, open_context())
    read(reader, MAX_QUEUED_PACKETS)
    assert writer._socket.poll(flags=zmq.POLLOUT)  # The writer hears a little later that there is room again.
    writer.announce(AAC)
    writer.write(0, b"end")
    assert read(reader, 2) == [AAC, AudioPacket(0, b"end")]


def test_a_rest_loses_nothing_and_the_next_stream_begins_anew(open_context, endpoint, writer):
    reader = AudioReader(endpoint, open_context())
    writer.announce(AAC)
    for pts in range(MAX_QUEUED_PACKETS // 2):
        writer.write(pts, b"of the first")
    writer.rest()
    writer.rest()
    assert [message.pts for message in read(reader, MAX_QUEUED_PACKETS // 2 + 1)[1:]] == list(
        range(MAX_QUEUED_PACKETS // 2)
    )
    writer.wake(0)
    writer.repeat_recent()
    writer.announce(AAC)
    writer.write(7, b"of the second")
    assert read(reader, 2) == [AAC, AudioPacket(7, b"of the second")]
    assert writer.dropped == 0


def test_a_successor_that_writes_a_file_hears_what_was_sent_of_late_in_order(open_context, endpoint, writer):
    first = open_context()
    reader = AudioReader(endpoint, first)
    writer.announce(AAC)
    for pts in range(3):
        writer.write(pts, b"heard by the first")
    read(reader, 4)
    reader.close()
    first.term()  # Nobody listens any more when this returns, as after a death.
    writer.write(3, b"heard by nobody")
    writer.repeat_recent()
    writer.write(4, b"new")
    successor = AudioReader(endpoint, open_context())
    assert [getattr(message, "pts", message) for message in read(successor, 6)] == [AAC, 0, 1, 2, 3, 4]


def test_what_is_repeated_leaves_room_for_what_is_new(writer):
    for pts in range(2 * MAX_QUEUED_PACKETS):
        writer.write(pts, b"x")
    dropped = writer.dropped
    writer.repeat_recent()
    writer.write(0, b"new")
    assert writer.dropped == dropped


def test_what_a_stream_has_left_behind_is_not_the_next_ones(open_context, endpoint, writer):
    writer.write_text(1, "of the first, whose egress is gone")
    writer.rest()
    writer.wake(1)
    reader = AudioReader(endpoint, open_context(), 1)
    writer.write_text(2, "of the second")
    writer.wake(2)
    writer.write_text(3, "of one that is not here yet")
    assert read(reader, 2) == [TextLine(2, "of the second"), TextLine(3, "of one that is not here yet")]
