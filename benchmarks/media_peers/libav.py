"""The floor: the shortest loop over libav, by PyAV, that does the same to each picture. It is no live pipeline: it
reads a file, may probe it, and its muxer may hold back."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.filter import Graph
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from benchmarks.end_to_end_peers.cases import CRF, GOP_SECONDS, PRESET
from benchmarks.media_peers.work import (
    CONVERT,
    DECODE,
    DEMUX,
    ENCODE,
    FPS,
    MUX,
    PROCESS,
    SCALE,
    WARM_UP,
    Stopwatch,
    Work,
)

_TIME_BASE = Fraction(1, 90_000)


def measure(work: Work, source: Path) -> dict[str, float]:
    """CPU ms per picture by stage. In the processor's place the picture is copied, which is the least that one does."""
    slot = np.empty((work.out_height, work.out_width, 3), np.uint8)
    processed = np.empty_like(slot)
    converter = VideoReformatter()
    pictures = 0
    with av.open(str(source)) as container, av.open("/dev/null", "w", format="mpegts") as output:
        sound = container.streams.audio[0]
        video, copied = _video_stream(output, work), output.add_stream_from_template(sound)
        graph = _graph(work, container.streams.video[0])
        watch = Stopwatch()
        for packet in container.demux():
            watch.lap(DEMUX)
            if not packet.size:
                continue
            if packet.stream is sound:
                assert isinstance(copied, AudioStream)
                packet.stream = copied
                output.mux(packet)
                watch.lap(MUX)
                continue
            frames = packet.decode()
            watch.lap(DECODE)
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                graph.push(frame)
                scaled = graph.pull()
                assert isinstance(scaled, av.VideoFrame)
                np.copyto(slot, scaled.to_ndarray())
                watch.lap(SCALE)
                np.copyto(processed, slot)
                watch.lap(PROCESS)
                picture = converter.reformat(av.VideoFrame.from_numpy_buffer(processed, "rgb24"), format="yuv420p")
                watch.lap(CONVERT)
                picture.pts, picture.time_base = frame.pts, _TIME_BASE
                due = pictures % round(GOP_SECONDS * FPS) == 0
                picture.pict_type = PictureType.I if due else PictureType.NONE
                coded = video.encode(picture)
                watch.lap(ENCODE)
                output.mux(coded)
                watch.lap(MUX)
                pictures += 1
                if pictures == WARM_UP:
                    watch.restart()
    return watch.per_picture_ms(pictures - WARM_UP)


def _video_stream(output: av.container.OutputContainer, work: Work) -> VideoStream:
    options = {"preset": PRESET, "tune": "zerolatency", "crf": str(CRF), "forced-idr": "1", "sc_threshold": "0"}
    video = output.add_stream("libx264", rate=FPS, options=options)
    assert isinstance(video, VideoStream)
    video.width, video.height, video.pix_fmt = work.out_width, work.out_height, "yuv420p"
    video.codec_context.time_base = _TIME_BASE
    video.codec_context.thread_count = 1
    return video


def _graph(work: Work, source: VideoStream) -> Graph:
    graph = Graph()
    graph.threads = 1
    width, height = work.crop
    same = (width, height) == (work.out_width, work.out_height)
    graph.link_nodes(
        graph.add_buffer(template=source),
        graph.add("crop", f"{width}:{height}"),
        *([] if same else [graph.add("scale", f"{work.out_width}:{work.out_height}:flags=area")]),
        graph.add("format", "rgb24"),
        graph.add("buffersink"),
    ).configure()
    return graph
