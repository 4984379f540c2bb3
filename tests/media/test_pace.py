"""What a publisher that cannot keep up does to the encoder in front of it."""

import numpy as np
import pytest

from pipeline.media.encoder import VideoEncoder
from pipeline.media.pace import REPORT_INTERVAL_S, Pace
from pipeline.media.rate_control import HIGH_DELAY_S, MAX_DELAY_S

BITRATE, FLOOR = 800_000, 200_000
FPS = 30


class Queue:
    """Lets out so many bits a second, first come first served."""

    def __init__(self, bits_per_second):
        self.bits_per_second = bits_per_second
        self.error = None
        self.congested = False
        self._now_s = 0.0
        self._waiting = []  # [bits, when they came]

    @property
    def queued_seconds(self):
        return self._now_s - self._waiting[0][1] if self._waiting else 0.0

    def put(self, data):
        self._waiting.append([8 * len(data), self._now_s])

    def go_on(self, seconds):
        self._now_s += seconds
        room = self.bits_per_second * seconds
        while self._waiting and room > 0:
            sent = min(room, self._waiting[0][0])
            room -= sent
            self._waiting[0][0] -= sent
            if self._waiting[0][0] <= 0:
                self._waiting.pop(0)


@pytest.fixture(scope="module")
def noise():
    """Pictures that no bitrate is enough for."""
    return np.random.default_rng(1).integers(0, 255, (8, 128, 128, 3), np.uint8)


class Stream:
    """An encoder at its pace in front of a queue."""

    def __init__(self, noise, bits_per_second, **quality):
        self.reports = []
        self.number = 0
        self.queue = Queue(bits_per_second)
        self.encoder = VideoEncoder(128, 128, FPS, gop_seconds=2, **(quality or {"bitrate": BITRATE}))
        self.pace = Pace(self.queue, self.encoder, FLOOR, self.reports.append)
        self._noise = noise

    def play(self, seconds):
        """How many pictures were left out, the longest delay, the bits that were encoded each second."""
        left_out, longest, bits = 0, 0.0, 0
        for _ in range(round(seconds * FPS)):
            self.number += 1
            longest = max(longest, self.queue.queued_seconds)
            if self.pace.admits(self.number / FPS):
                for unit in self.encoder.encode(self._noise[self.number % 8], self.number * 3000):
                    self.queue.put(unit.data)
                    bits += 8 * len(unit.data)
            else:
                left_out += 1
            self.queue.go_on(1 / FPS)
        return left_out, longest, bits / seconds


def test_a_path_that_carries_it_gets_every_picture_at_full_rate(noise):
    stream = Stream(noise, 4 * BITRATE)
    left_out, longest, bits = stream.play(8)
    assert left_out == 0
    assert longest < HIGH_DELAY_S
    assert bits == pytest.approx(BITRATE, rel=0.25)
    assert stream.reports == []


def test_on_half_the_path_the_bitrate_goes_down_and_comes_back_with_the_path(noise):
    stream = Stream(noise, BITRATE // 2)
    stream.play(10)
    left_out, longest, bits = stream.play(10)
    assert left_out == 0, "the bitrate alone is enough"
    assert longest <= MAX_DELAY_S
    assert FLOOR < bits < 0.65 * BITRATE
    stream.queue.bits_per_second = 4 * BITRATE
    stream.play(20)
    assert stream.encoder.bitrate == BITRATE
    assert stream.play(5)[2] == pytest.approx(BITRATE, rel=0.25)


def test_below_the_floor_pictures_are_left_out_before_they_are_encoded(noise):
    stream = Stream(noise, FLOOR // 2)
    stream.play(15)
    left_out, longest, _ = stream.play(15)
    assert stream.encoder.bitrate == FLOOR
    assert 0 < left_out < 15 * FPS
    assert longest <= 2.5 * MAX_DELAY_S, "what was admitted last still has to leave: a key picture of pure noise"


def test_constant_quality_is_kept_and_pictures_are_left_out(noise):
    stream = Stream(noise, BITRATE // 2, crf=30)
    left_out, _, _ = stream.play(10)
    assert left_out > 0
    assert stream.reports == []


def test_changes_are_told_at_most_once_per_interval_and_the_last_one_is(noise):
    stream = Stream(noise, BITRATE // 4)
    stream.play(REPORT_INTERVAL_S)
    assert len(stream.reports) == 1
    stream.queue.bits_per_second = 4 * BITRATE
    stream.play(40)
    assert len(stream.reports) <= 5
    assert stream.reports[-1] == BITRATE


def test_while_nobody_is_there_nothing_is_learnt_of_the_path(noise):
    stream = Stream(noise, 0)
    stream.queue.error = ConnectionError("gone")
    assert stream.play(5)[0] == 0
    assert stream.encoder.bitrate == BITRATE
    stream.queue.congested = True
    assert not stream.pace.admits(stream.number / FPS)
