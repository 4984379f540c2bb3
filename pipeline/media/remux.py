"""A finished MPEG-TS file into the container that was asked for: nothing is encoded again, times begin at 0."""

import io
import os
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream

from pipeline.media.errors import MediaFileError
from pipeline.media.ts_demux import PACKET_BYTES, TsDemuxer
from pipeline.media.ts_mux import TsMuxer

# How far libavformat looks for the first sound.
_PROBE = {"probesize": str(32 << 20), "analyzeduration": "30000000"}
_READ_BYTES = PACKET_BYTES << 10
# The index in front: a player, or a browser, begins before it has the whole file.
_OPTIONS = {"mp4": {"movflags": "+faststart"}, "mov": {"movflags": "+faststart"}, "matroska": {}}


def remux(source: Path, target: Path, container: str) -> None:
    """Write `target`, as a whole or not at all. Sound from before the first picture is left out.

    Raises MediaFileError if the streams do not go into the container, OSError if it cannot be written.
    """
    unfinished = target.with_name(target.name + ".part")
    try:
        with av.open(str(source), format="mpegts", options=_PROBE) as reading:
            if container == "mov" and any(sound.codec_context.name == "opus" for sound in reading.streams.audio):
                container = "mp4"  # QuickTime's own form has no Opus; the ISO form of the same file has.
            with av.open(str(unfinished), "w", format=container, options=_OPTIONS[container]) as writing:
                _copy(reading, writing, _streams(source, reading, writing))
    except (av.FFmpegError, ValueError) as error:
        unfinished.unlink(missing_ok=True)
        raise MediaFileError(f"{target}: cannot be made of {source}: {error}") from error
    os.replace(unfinished, target)


def _streams(path: Path, reading: InputContainer, writing: OutputContainer) -> dict[int, Stream]:
    """The streams written, by the index of the stream read."""
    video = reading.streams.video[0]
    streams: dict[int, Stream] = {video.index: writing.add_stream_from_template(video)}
    for sound in reading.streams.audio[:1]:
        if sound.codec_context.sample_rate:
            streams[sound.index] = writing.add_stream_from_template(sound)
        elif (sample := _first_sound(path)) is not None:
            with av.open(io.BytesIO(sample), format="mpegts") as late:
                streams[sound.index] = writing.add_stream_from_template(late.streams.audio[0])
    return streams


def _first_sound(path: Path) -> bytes | None:
    """A stream of nothing but the first sound of a file in which it comes late; None if none comes."""
    demuxer = TsDemuxer()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            sound = next((unit for unit in demuxer.feed(data) if not unit.is_video), None)
            if sound is not None and demuxer.streams is not None:
                muxer = TsMuxer(audio=sound.codec, audio_channels=demuxer.streams.audio_channels)
                return muxer.psi() + muxer.audio(sound.data, sound.pts)
    return None


def _copy(reading: InputContainer, writing: OutputContainer, streams: dict[int, Stream]) -> None:
    origin: int | None = None
    last: dict[int, int] = {}
    for packet in reading.demux([reading.streams[index] for index in streams]):
        if packet.pts is None or packet.dts is None or packet.size == 0:
            continue
        if origin is None:
            if packet.stream.type != "video":
                continue
            origin = packet.pts
        index = packet.stream_index
        packet.pts, packet.dts = packet.pts - origin, packet.dts - origin
        if packet.dts < 0 or packet.dts <= last.get(index, -1):
            continue
        last[index] = packet.dts
        packet.stream = streams[index]
        writing.mux(packet)
