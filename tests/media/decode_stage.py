"""The decode stage without its process, for tests of what it survives."""

from pipeline.media.blockcode import read_index
from pipeline.media.decoder import VideoDecoder
from pipeline.media.live_decoder import LiveDecoder, Picture
from pipeline.memory.slab import Slab, create_slab
from pipeline.memory.slot_table import ConsumerTable, Outcome, ProducerTable, link_bytes

CHUNK = 188 * 7


class Stage:
    """The decode process over all its lives: what it keeps is the table and the cursor, nothing else."""

    def __init__(self, max_fps=None, reads=False):
        self.max_fps = max_fps
        self.reads = reads
        self.fd = create_slab("test", link_bytes(2, 8))
        self.consumer = ConsumerTable(Slab(self.fd), 2, 8)
        self.cursor = -1
        self.pictures, self.sounds = [], []
        self.codecs = []  # of the sounds
        self.shown = []  # the index burnt into each picture, if `reads`; None where it cannot be read
        self.start()

    def start(self):
        self.table = ProducerTable(Slab(self.fd), 2, 8)
        self.live = LiveDecoder(VideoDecoder(64, 64), self.table, self.cursor, max_fps=self.max_fps)

    def feed(self, segment, data, gap=False):
        for start in range(0, len(data), CHUNK):
            self.feed_chunk(segment, data[start : start + CHUNK], gap and not start)

    def feed_chunk(self, segment, data, gap=False):
        for item in self.live.feed(segment, data, gap=gap):
            self.hand_on(item)
        self.cursor = self.live.resume_segment

    def flush(self):
        for item in self.live.flush():
            self.hand_on(item)

    def hand_on(self, item):
        if not isinstance(item, Picture):
            self.sounds.append((item.pts, item.data))
            self.codecs.append(item.codec)
            return
        slot = self.table.free_slot()
        self.table.begin(slot, self.table.next_seq(), item.pts, 0, 0, owner=1)
        self.table.publish(slot, 0)
        self.consumer.take(slot, owner=1)
        self.consumer.finish(slot, Outcome.DELIVERED)
        self.pictures.append(item.pts)
        if self.reads:
            reading = read_index(item.frame.to_ndarray(format="gray"))
            self.shown.append(reading and reading.index)

    @property
    def given(self):
        return self.pictures, self.sounds
