"""Maps the timestamps of a source, which may jump or start over, to one rising timeline shared by audio and video.

Pure arithmetic on 90 kHz ticks: it neither reads a clock nor drops anything.
"""

from pipeline.media.access_unit import CLOCK_HZ

# A gap up to this long is a gap, and stays one; a longer step means that the source counts from another origin.
MAX_GAP = 10 * CLOCK_HZ
# Pictures may come back in time by this much without a new origin: repeated or rounded timestamps.
MAX_STEP_BACK = CLOCK_HZ // 10
# The step across a change of origin before any step was seen, and the longest step that is remembered for it.
DEFAULT_STEP = CLOCK_HZ // 30
MAX_REMEMBERED_STEP = CLOCK_HZ // 5


class Timeline:
    """Out = in + offset, with a new offset whenever the source's origin changes.

    `offset` and `last_video` are all its state: given to a new instance, the mapping goes on where it was. A restarted
    stage that is fed again from the start of a segment needs the state of that moment; what it then repeats gets the
    times it had.
    """

    def __init__(self, offset: int = 0, last_video: int | None = None) -> None:
        self.offset = offset
        self.last_video = last_video
        self.changes = 0
        self._last_audio: int | None = None
        self._video_source: int | None = None
        self._audio_source: int | None = None
        self._step = DEFAULT_STEP

    def video(self, pts: int) -> int:
        """Time of a picture, in presentation order: always later than the time that this instance gave before."""
        if self._video_moved_origin(pts):
            self._change_origin(pts)
        elif self._video_source is not None and 0 < pts - self._video_source <= MAX_REMEMBERED_STEP:
            self._step = pts - self._video_source
        out = pts + self.offset
        if self.last_video is not None:
            out = max(out, self.last_video + 1)
        self._video_source = pts
        self.last_video = out
        return out

    def audio(self, pts: int) -> int:
        """Time of an audio unit, on the offset of the video: always later than the time before it."""
        if _is_jump(pts, self._audio_source, self._video_source):
            self._change_origin(pts)
        out = pts + self.offset
        if self._last_audio is not None:
            out = max(out, self._last_audio + 1)
        self._audio_source = pts
        self._last_audio = out
        return out

    def _video_moved_origin(self, pts: int) -> bool:
        if self.last_video is None:
            return _is_jump(pts, None, self._audio_source)
        step = pts + self.offset - self.last_video
        if self._video_source is None and self._audio_source is None and step > MAX_GAP:
            return True
        # Audio that set a new origin can leave the video far behind what went out: then the video sets its own.
        return step < -MAX_STEP_BACK or _is_jump(pts, self._video_source, self._audio_source)

    def _change_origin(self, pts: int) -> None:
        head = max(last for last in (self.last_video, self._last_audio) if last is not None)
        self.offset = head + self._step - pts
        self.changes += 1
        self._video_source = self._audio_source = None


def _is_jump(pts: int, own: int | None, other: int | None) -> bool:
    """Whether a step from the last source time of the same kind, else of the other kind, is a change of origin."""
    if own is not None:
        return not -MAX_STEP_BACK <= pts - own <= MAX_GAP
    return other is not None and abs(pts - other) > MAX_GAP
