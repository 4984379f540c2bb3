"""Checks a recording of the test pattern: is every picture there, in order, and does the sound fit?

It trusts only what is in the picture and in the sound, never the file's own claims.
"""

from fractions import Fraction
from itertools import pairwise
from os import PathLike
from pathlib import Path

import av
import msgspec
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from pipeline.media.blockcode import read_index
from pipeline.media.errors import MediaFileError
from pipeline.media.tone import BEEP_PITCHES, BEEP_SECONDS, SAMPLE_RATE, Beep, find_beeps

GAP_SECONDS = 0.005
"""Between pieces of sound: more than the rounding of their times."""


class RecordingReport(msgspec.Struct, frozen=True):
    """What was found. `missing` counts the numbers between the first and the last that no picture shows.

    `audio_offsets_ms` holds one value per beep that has its picture, positive where the sound is late.
    """

    frames: int
    first_index: int | None
    last_index: int | None
    out_of_order: int
    duplicates: int
    unreadable: int
    missing: int
    inverted: int
    beeps: int
    audio_offsets_ms: tuple[float, ...]
    max_audio_offset_ms: float | None
    duration_seconds: float

    @property
    def in_order(self) -> bool:
        return self.frames > 0 and not (self.out_of_order or self.unreadable)


class _Shown(msgspec.Struct, frozen=True):
    time: float
    index: int
    inverted: bool


def verify_recording(path: str | PathLike[str], fps: int | float | Fraction) -> RecordingReport:
    """Read a recording of a pattern that was made at `fps` pictures a second; it is held in memory while it is read.

    Raises MediaFileError if the file is missing, is no media file or has no video.
    """
    shown, unreadable, duration = _read_pictures(Path(path))
    samples, begins = _read_sound(Path(path))
    # A beep where sound begins may have lost its onset, and is no measure.
    beeps = [
        beep for beep in find_beeps(samples, begins[0]) if not any(0 <= beep.time - at < BEEP_SECONDS for at in begins)
    ]
    indices = [picture.index for picture in shown]
    steps = [after - before for before, after in pairwise(indices)]
    offsets = _offsets_ms(shown, beeps, float(fps))
    return RecordingReport(
        frames=len(shown) + unreadable,
        first_index=indices[0] if indices else None,
        last_index=indices[-1] if indices else None,
        out_of_order=sum(step < 0 for step in steps),
        duplicates=sum(step == 0 for step in steps),
        unreadable=unreadable,
        missing=max(indices) - min(indices) + 1 - len(set(indices)) if indices else 0,
        inverted=sum(picture.inverted for picture in shown),
        beeps=len(beeps),
        audio_offsets_ms=tuple(offsets),
        max_audio_offset_ms=max((abs(offset) for offset in offsets), default=None),
        duration_seconds=duration,
    )


def _read_pictures(path: Path) -> tuple[list[_Shown], int, float]:
    """Pictures whose number was read, the count of the others, and the time from the first to the end of the last."""
    shown: list[_Shown] = []
    times: list[float] = []
    with _open(path) as container:
        if not container.streams.video:
            raise MediaFileError(f"{path}: no video stream")
        for frame in container.decode(container.streams.video[0]):
            time = frame.time or 0.0
            times.append(time)
            reading = read_index(np.asarray(frame.to_ndarray(format="gray"), np.uint8))
            if reading is not None:
                shown.append(_Shown(time, reading.index, reading.inverted))
    duration = 0.0
    if len(times) > 1:
        duration = (times[-1] - times[0]) * len(times) / (len(times) - 1)
    return shown, len(times) - len(shown), duration


def _read_sound(path: Path) -> tuple[NDArray[np.float32], list[float]]:
    """Mono samples at SAMPLE_RATE, and the times at which sound begins: of the first sample, and after each gap. Gaps
    are silence. No samples if there is no sound."""
    with _open(path) as container:
        if not container.streams.audio:
            return np.zeros(0, np.float32), [0.0]
        resampler = AudioResampler("flt", "mono", SAMPLE_RATE)
        pieces: list[tuple[float, NDArray[np.float32]]] = []
        for frame in container.decode(container.streams.audio[0]):
            for resampled in resampler.resample(frame):
                pieces.append((resampled.time or 0.0, np.asarray(resampled.to_ndarray()[0], np.float32)))
    if not pieces:
        return np.zeros(0, np.float32), [0.0]
    ends = [time + len(piece) / SAMPLE_RATE for time, piece in pieces]
    begins = [time for (time, _), end in zip(pieces[1:], ends, strict=False) if time - end > GAP_SECONDS]
    start = pieces[0][0]
    starts = [round((time - start) * SAMPLE_RATE) for time, _ in pieces]
    samples = np.zeros(max(at + len(piece) for at, (_, piece) in zip(starts, pieces, strict=True)), np.float32)
    for at, (_, piece) in zip(starts, pieces, strict=True):
        if at >= 0:
            samples[at : at + len(piece)] = piece
    return samples, [start, *begins]


def _offsets_ms(shown: list[_Shown], beeps: list[Beep], fps: float) -> list[float]:
    """How late each beep is against the picture of its second, in ms; beeps outside of the pictures are left out."""
    if not shown:
        return []
    numbers = np.array([picture.index for picture in shown])
    times = np.array([picture.time for picture in shown])
    offsets = []
    for beep in beeps:
        about = numbers[np.argmin(np.abs(times - beep.time))] / fps
        # The pitch tells the second modulo 8; the picture at the time of the beep tells which of them.
        second = beep.pitch + BEEP_PITCHES * round((about - beep.pitch) / BEEP_PITCHES)
        if not numbers.min() <= second * fps <= numbers.max():
            continue
        nearest = int(np.argmin(np.abs(numbers - second * fps)))
        picture_time = times[nearest] + second - numbers[nearest] / fps
        offsets.append(float(beep.time - picture_time) * 1000)
    return offsets


def _open(path: Path) -> av.container.InputContainer:
    if not path.exists():
        raise MediaFileError(f"{path}: no such file")
    try:
        return av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise MediaFileError(f"{path}: not a media file ({error.strerror})") from error
