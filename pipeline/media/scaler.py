"""Decoded pictures of any size and format to RGB of one size, written into memory that the caller owns.

One filter graph does it: crop (a pointer shift), scale in YUV, then convert at the small size, and turn the picture
upright last. On 720p to 512x512 that takes a third of the time of converting first, and the eye does not tell.

High dynamic range (PQ, HLG) is not brought down to what displays show: such pictures look flat. swscale can do it since
FFmpeg 7.1, but computes 3 to 6 s at the first picture to begin with.
"""

from enum import StrEnum
from fractions import Fraction

import av
import msgspec
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext
from numpy.typing import NDArray

from pipeline.media.access_unit import CLOCK_HZ
from pipeline.media.deinterlacer import Deinterlacer
from pipeline.media.orientation import Orientation

UPRIGHT = Orientation()
SQUARE = Fraction(1)

# AVColorSpace (H.273 table 4) to the names of the scale filter.
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_FULL_RANGE = 2
# A stream that does not say its matrix means BT.709 from this many lines on, as players assume.
_HD_LINES = 720


class Fit(StrEnum):
    """How a picture of another shape fills the target."""

    CROP = "crop"  # cover the target, cut what sticks out on both sides
    PAD = "pad"  # show all, with black bars
    STRETCH = "stretch"


class Layout(msgspec.Struct, frozen=True):
    """Which part of the source goes to which part of the target, all in pixels."""

    crop_x: int
    crop_y: int
    crop_width: int
    crop_height: int
    x: int
    y: int
    width: int
    height: int


class FrameScaler:
    """Scales to `width` x `height`. The graph is rebuilt whenever the input's size, format, colours, orientation or
    pixel aspect change; interlaced pictures are deinterlaced before it."""

    def __init__(self, width: int, height: int, fit: Fit | str = Fit.CROP) -> None:
        """Raises ValueError for a size below 1 or an unknown fit."""
        if width < 1 or height < 1:
            raise ValueError(f"cannot scale to {width}x{height}")
        self.width = width
        self.height = height
        self.fit = Fit(fit)
        self.rebuilds = 0
        self._key: tuple[int, int, str, int, int, Orientation, Fraction] | None = None
        self._graph: Graph | None = None
        self._source: FilterContext | None = None
        self._sink: FilterContext | None = None
        self._layout = Layout(0, 0, 1, 1, 0, 0, width, height)
        self._deinterlacer = Deinterlacer()

    def scale_into(
        self,
        frame: av.VideoFrame,
        slot: NDArray[np.uint8],
        orientation: Orientation = UPRIGHT,
        sample_aspect: Fraction = SQUARE,
    ) -> None:
        """Write `frame` as RGB into `slot`, uint8 [height, width, 3], C-contiguous and writable.

        The picture is turned as `orientation` says; a pixel of it is shown `sample_aspect` times as wide as high.
        Raises ValueError for a slot of another shape, dtype or layout.
        """
        if slot.shape != (self.height, self.width, 3) or slot.dtype != np.uint8 or not slot.flags.c_contiguous:
            raise ValueError(f"slot is {slot.dtype}{slot.shape}, wanted contiguous uint8{(self.height, self.width, 3)}")
        if frame.interlaced_frame:
            frame = self._deinterlacer.deinterlace(frame)
        colours = int(frame.colorspace), int(frame.color_range)
        key = (frame.width, frame.height, frame.format.name, *colours, orientation, sample_aspect)
        if key != self._key:
            self._rebuild(frame, orientation, sample_aspect)
            self._key = key
        assert self._source is not None
        assert self._sink is not None
        self._source.push(frame)
        scaled = self._sink.pull()
        assert isinstance(scaled, av.VideoFrame)
        self._copy(scaled, slot)

    def _copy(self, scaled: av.VideoFrame, slot: NDArray[np.uint8]) -> None:
        layout = self._layout
        right, bottom = layout.x + layout.width, layout.y + layout.height
        # to_ndarray gives a view of the frame, whose rows may be padded: this copy is the only one.
        np.copyto(slot[layout.y : bottom, layout.x : right], scaled.to_ndarray())
        if self.fit is Fit.PAD:
            # The slot held another frame before, and its borders are nobody else's to clear.
            slot[: layout.y] = 0
            slot[bottom:] = 0
            slot[layout.y : bottom, : layout.x] = 0
            slot[layout.y : bottom, right:] = 0

    def _rebuild(self, frame: av.VideoFrame, orientation: Orientation, sample_aspect: Fraction) -> None:
        self._layout = lay_out(
            *as_shown(frame.width, frame.height, orientation, sample_aspect), self.width, self.height, self.fit
        )
        graph = Graph()
        graph.threads = 1
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, CLOCK_HZ)
        )
        sink = graph.add("buffersink")
        steps = [*_steps(frame, self._layout, orientation), *orientation.filters]
        graph.link_nodes(source, *(graph.add(name, arguments) for name, arguments in steps), sink)
        graph.configure()
        self._graph, self._source, self._sink = graph, source, sink
        self.rebuilds += 1


def _steps(frame: av.VideoFrame, layout: Layout, orientation: Orientation) -> list[tuple[str, str]]:
    """The filters, with their arguments, that crop, scale and convert to RGB; the picture is turned after them."""
    matrix = matrix_of(frame)
    full_range = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith("yuvj") or frame.format.is_rgb
    source_range = "pc" if full_range else "tv"
    crop, offset, size = [
        (layout.crop_width, layout.crop_height),
        (layout.crop_x, layout.crop_y),
        (layout.width, layout.height),
    ]
    if orientation.degrees % 180:
        crop, offset, size = crop[::-1], offset[::-1], size[::-1]
    shrinks = crop[0] >= size[0] and crop[1] >= size[1]
    # swscale takes grey without chroma for full range whatever it is told: its values are left as they are.
    kept_range = "pc" if frame.format.name.startswith("gray") else source_range
    matrices = f"in_color_matrix={matrix}:out_color_matrix={matrix}"
    return [
        ("crop", f"{crop[0]}:{crop[1]}:{offset[0]}:{offset[1]}:exact=1"),
        (
            "scale",
            f"{size[0]}:{size[1]}:flags={'area' if shrinks else 'bilinear'}+accurate_rnd:{matrices}"
            f":in_range={kept_range}:out_range={kept_range}",
        ),
        ("format", "yuv420p"),
        ("scale", f"{size[0]}:{size[1]}:flags=bilinear:{matrices}:in_range={source_range}"),
        ("format", "rgb24"),
    ]


def as_shown(width: int, height: int, orientation: Orientation, sample_aspect: Fraction) -> tuple[int, int, Fraction]:
    """Size in pixels and their aspect once the picture is turned."""
    if orientation.degrees % 180:
        return height, width, 1 / sample_aspect
    return width, height, sample_aspect


def lay_out(width: int, height: int, sample_aspect: Fraction, to_width: int, to_height: int, fit: Fit) -> Layout:
    """Fit a picture of `width` x `height` pixels, each `sample_aspect` times as wide as high, into the square pixels of
    the target; every length is at least 1 and nothing sticks out."""
    crop_width, crop_height = width, height
    out_width, out_height = to_width, to_height
    shape = width * sample_aspect / height
    wanted = Fraction(to_width, to_height)
    if fit is Fit.CROP and shape > wanted:
        crop_width = max(1, round(width * wanted / shape))
    elif fit is Fit.CROP:
        crop_height = max(1, round(height * shape / wanted))
    elif fit is Fit.PAD and shape > wanted:
        out_height = max(1, round(to_width / shape))
    elif fit is Fit.PAD:
        out_width = max(1, round(to_height * shape))
    return Layout(
        # At an even offset, so that the samples of subsampled chroma stay with theirs of luma.
        (width - crop_width) // 4 * 2,
        (height - crop_height) // 4 * 2,
        crop_width,
        crop_height,
        (to_width - out_width) // 2,
        (to_height - out_height) // 2,
        out_width,
        out_height,
    )


def matrix_of(frame: av.VideoFrame) -> str:
    """Name of the frame's YCbCr matrix; where the stream does not say, BT.709 for HD and BT.601 below."""
    return _MATRICES.get(int(frame.colorspace), "bt709" if frame.height >= _HD_LINES else "bt601")
