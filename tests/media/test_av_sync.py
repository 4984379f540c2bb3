"""An hour of sound and pictures in virtual time: whatever happens to the pictures, the sound stays with them.

Real access units' times, and everything between a source's multiplexer and a viewer's demultiplexer that touches them:
TsDemuxer, Timeline, KeepAlive, Segmenter, TsMuxer. What is played is only the clock, and who is late or away.
"""

import heapq
from itertools import pairwise

import msgspec
import pytest

from pipeline.media.access_unit import CLOCK_HZ, Codec
from pipeline.media.keep_alive import LAG_S, KeepAlive
from pipeline.media.segmenter import MAX_AUDIO_HOLD, Segmenter
from pipeline.media.timeline import Timeline
from pipeline.media.ts_demux import TsDemuxer
from pipeline.media.ts_mux import TsMuxer

MINUTE = 60 * CLOCK_HZ
HOUR = 60 * MINUTE
AUDIO_STEP = 1920  # 1024 samples at 48 kHz
VIDEO_STEP = 3003  # 30000/1001 pictures a second
GOP = 30
TOLERANCE = 1800  # 20 ms

WRAP = 1 << 33
FIRST_ORIGIN = WRAP - 20 * MINUTE  # the source's own clock at the start: its timestamps wrap after 20 minutes
RESTART = 35 * MINUTE  # then the source is away for 3 s, and starts over at 7 s of its own clock
RESTART_GAP = 3 * CLOCK_HZ
SECOND_ORIGIN = 7 * CLOCK_HZ

SLOW = range(10 * MINUTE, 15 * MINUTE)  # inference takes 500 ms
TOO_SLOW = range(40 * MINUTE, 42 * MINUTE)  # 1.5 s: longer than sound is held
AWAY = range(25 * MINUTE, 25 * MINUTE + 4 * CLOCK_HZ)  # inference is away
DROPPING = range(50 * MINUTE, 55 * MINUTE)  # and here it takes every third picture only


def ready_at(at):
    """When the picture that was captured at `at` leaves inference."""
    ready = at + CLOCK_HZ // 30
    if at in SLOW:
        ready = at + CLOCK_HZ // 2
    if at in TOO_SLOW:
        ready = at + 3 * CLOCK_HZ // 2
    return AWAY[-1] if ready in AWAY else ready  # What it had in hand is done by its successor.


def is_dropped(number, at):
    return at in AWAY or number % 11 == 5 or (at in DROPPING and number % 3 != 0)


class Seen(msgspec.Struct):
    """A unit as it leaves: `true` is when it was captured, None for a picture that is shown again."""

    at: int
    is_video: bool
    pts: int
    dts: int
    true: int | None


def source():
    """(capture time, is_video, number, bytes) in the order of a live multiplexer: by time."""
    muxer = TsMuxer(audio=Codec.AAC)
    moments = heapq.merge(
        ((at, True, number) for number, at in enumerate(range(0, HOUR, VIDEO_STEP))),
        ((at, False, number) for number, at in enumerate(range(0, HOUR, AUDIO_STEP))),
    )
    epoch = 0
    yield 0, None, 0, muxer.psi()
    for at, is_video, number in moments:
        if RESTART <= at < RESTART + RESTART_GAP:
            continue
        if at >= RESTART and epoch == 0:
            epoch, muxer = 1, TsMuxer(audio=Codec.AAC)
            yield at, None, 0, muxer.psi()
        own = at + FIRST_ORIGIN if epoch == 0 else at - RESTART - RESTART_GAP + SECOND_ORIGIN
        payload = b"%d:%d" % (at, number)
        if is_video:
            slice_type = b"\x65" if number % GOP == 0 else b"\x41"
            yield at, True, number, muxer.video(b"\0\0\0\1" + slice_type + payload, own, key=number % GOP == 0)
        else:
            yield at, False, number, muxer.audio(payload, own)


class Egress:
    """What workers.egress does with frames, sound and the clock, at times that it is told."""

    def __init__(self):
        self.now = 0
        self.seen = []
        self.held = []  # for how long each unit of sound was held
        self._viewer = TsDemuxer()
        self._arrived = {}
        self._alive = KeepAlive(60)
        self._segmenter = Segmenter(TsMuxer(audio=Codec.AAC), self)
        self._shown = 0

    def begin_segment(self):
        pass

    def end_segment(self):
        pass

    def write(self, data):
        for unit in self._viewer.feed(data):
            text = unit.data.rsplit(b"\x65", 1)[-1].rsplit(b"\x41", 1)[-1] if unit.is_video else unit.data
            true = None if text == b"again" else int(text.split(b":")[0])
            self.seen.append(Seen(self.now, unit.is_video, unit.pts, unit.dts, true))
            if not unit.is_video:
                self.held.append(self.now - self._arrived.pop(true))

    def sound(self, at, payload, pts):
        self._wait_until(at)
        self._arrived[int(payload.split(b":")[0])] = at
        self._segmenter.audio(payload, pts)

    def picture(self, at, payload, pts):
        self._wait_until(at)
        if self._alive.accepts(pts, self._ns()):
            self._show(payload, pts)
            self._alive.shown(pts, self._ns())

    def inference_is_away(self, at):
        self._wait_until(at)
        self._alive.inference_is_away(self._ns())

    def _wait_until(self, at):
        while (left := self._alive.seconds_left(self._ns())) is not None and self.now + left * CLOCK_HZ <= at:
            self.now += max(1, round(left * CLOCK_HZ))
            self._show(b"again", self._alive.repeat(self._ns()))
        self.now = max(self.now, at)

    def _show(self, payload, pts):
        key = self._shown % GOP == 0
        self._shown += 1
        self._segmenter.video(b"\0\0\0\1" + (b"\x65" if key else b"\x41") + payload, pts, pts, key)

    def _ns(self):
        return self.now * 1_000_000_000 // CLOCK_HZ


@pytest.fixture(scope="module")
def hour():
    """Egress after an hour."""
    egress, demuxer, timeline = Egress(), TsDemuxer(), Timeline()
    late = []  # pictures in inference: (ready, number, payload, pts)
    told = False
    for at, is_video, number, data in source():
        for unit in demuxer.feed(data):
            while late and late[0][0] <= at:
                ready, _, payload, pts = heapq.heappop(late)
                egress.picture(ready, payload, pts)
            if at in AWAY and not told:
                told = True
                egress.inference_is_away(at)
            if not unit.is_video:
                egress.sound(at, unit.data, timeline.audio(unit.pts))
            else:
                pts = timeline.video(unit.pts)
                if not is_dropped(number, at):
                    payload = unit.data.rsplit(b"\x65", 1)[-1].rsplit(b"\x41", 1)[-1]
                    heapq.heappush(late, (ready_at(at), number, payload, pts))
        assert is_video is None or timeline.changes <= 1
    for ready, _, payload, pts in sorted(late):
        egress.picture(ready, payload, pts)
    return egress


def test_sound_stays_within_20_ms_of_the_picture_at_every_moment(hour):
    """The offset of what leaves, against that of what was captured: 0 where both were captured at once."""
    worst = 0
    skew = {}
    for unit in hour.seen:
        if unit.true is None:
            continue
        epoch = unit.true >= RESTART
        skew[epoch, unit.is_video] = unit.pts - unit.true
        if (epoch, not unit.is_video) in skew:
            worst = max(worst, abs(skew[epoch, True] - skew[epoch, False]))
    assert {key[0] for key in skew} == {False, True}
    assert worst <= TOLERANCE
    assert worst <= 1, "and in fact nothing is re-timed"


def test_nothing_drifts_and_nothing_jumps_but_where_the_source_started_over(hour):
    offsets = [unit.pts - unit.true for unit in hour.seen if not unit.is_video]
    steps = [after - before for before, after in pairwise(offsets) if after != before]
    assert len(steps) == 1, "its three seconds are cut, once"
    assert steps[0] == pytest.approx(-RESTART_GAP, abs=VIDEO_STEP)


def test_times_of_each_stream_rise_strictly_through_wrap_restart_and_outage(hour):
    for is_video in (True, False):
        times = [unit.dts for unit in hour.seen if unit.is_video == is_video]
        assert all(before < after for before, after in pairwise(times))


def test_no_sound_is_lost(hour):
    heard = sum(not unit.is_video for unit in hour.seen)
    captured = sum(not RESTART <= at < RESTART + RESTART_GAP for at in range(0, HOUR, AUDIO_STEP))
    assert captured - heard <= 50, "all but the last second, which waits for a picture"


def test_sound_is_never_held_longer_than_stated(hour):
    assert max(hour.held) <= MAX_AUDIO_HOLD + AUDIO_STEP


def test_the_output_has_pictures_while_inference_is_away(hour):
    times = [unit.at for unit in hour.seen if unit.is_video and AWAY[0] <= unit.at <= AWAY[-1] + CLOCK_HZ]
    assert max(after - before for before, after in pairwise(times)) < 4 * VIDEO_STEP
    assert sum(unit.true is None for unit in hour.seen) > 100


def leads(hour, minutes):
    """How far each unit of sound is ahead of the newest picture before it in the byte stream, in ticks."""
    newest, found = None, []
    for unit in hour.seen:
        if unit.is_video:
            newest = unit.pts
        elif unit.at in minutes:
            found.append(unit.pts - newest)
    return found


def test_with_half_a_second_of_inference_sound_lies_next_to_its_picture_in_the_bytes(hour):
    steady = leads(hour, range(SLOW[0] + MINUTE, SLOW[-1]))
    assert max(steady) <= 0, "it never comes before the picture of its time"
    assert min(steady) >= -3 * VIDEO_STEP, "nor later than with the next picture but two, where some are dropped"


def test_with_more_latency_than_the_hold_sound_is_ahead_by_the_rest(hour):
    steady = leads(hour, range(TOO_SLOW[0] + CLOCK_HZ * 10, TOO_SLOW[-1]))
    assert max(steady) <= CLOCK_HZ // 2 + 3 * VIDEO_STEP


def test_repeated_pictures_trail_the_sound_by_the_lag(hour):
    assert max(leads(hour, range(AWAY[0] + CLOCK_HZ, AWAY[-1]))) <= LAG_S * CLOCK_HZ
