"""Stages and a supervisor that break one rule each, to see that the chain's checks find it out."""

import os
import signal
import time

from pipeline.link import LinkWriter, open_reader
from pipeline.memory.slot_table import Outcome
from tests.chaos import pixels
from tests.chaos.chain_stages import RECORD, TICKS_PER_FRAME, WORK_SECONDS, Common, is_good, next_frame, slot_for
from tests.chaos.frame_chain import STAGES, Chain

TOGETHER_SECONDS = 0.003
"""How long a stage that was taken for dead goes on beside its successor."""


def source_that_publishes_too_early(common: Common, owner: int) -> None:
    """Hands a frame over before its pixels are complete."""
    writer = LinkWriter(common.raw, owner=owner)
    views = [pixels.view_of(slot.data) for slot in writer.table.slots]
    while common.goes_on(seq := writer.table.next_seq()):
        slot = writer.acquire(seq=seq, pts=TICKS_PER_FRAME * seq, epoch=0, arrived_ns=0)
        if slot is not None:
            writer.publish(slot)
            pixels.paint(views[slot.index], seq)
    writer.end()


def middle_that_releases_too_early(common: Common, owner: int) -> None:
    """Gives a frame back before what became of it is handed over."""
    reader, writer = open_reader(common.raw, owner=owner), LinkWriter(common.styled, owner=owner)
    views = [pixels.view_of(slot.data) for slot in reader.table.slots]
    targets = [pixels.view_of(slot.data) for slot in writer.table.slots]
    while (slot := next_frame(reader)) is not None:
        target = slot_for(writer, slot)
        pixels.style(views[slot.index], targets[target.index])
        reader.release(slot, Outcome.DELIVERED)
        time.sleep(WORK_SECONDS)
        writer.publish(target)
    writer.end()


def sink_that_commits_too_late(common: Common, owner: int) -> None:
    """Writes a frame down before it says that it is about to."""
    reader = open_reader(common.styled, owner=owner)
    views = [pixels.view_of(slot.data) for slot in reader.table.slots]
    while (slot := next_frame(reader)) is not None:
        os.write(common.log, RECORD.pack(slot.seq, is_good(slot, views[slot.index]), owner))
        time.sleep(WORK_SECONDS)
        reader.commit(slot)
        reader.release(slot, Outcome.DELIVERED)


class SupervisorThatCannotWait(Chain):
    """Takes a stage that is merely silent for a dead one."""

    def strike(self) -> None:
        stage = self.random.choice(STAGES)
        silent = self.lives[stage]
        os.kill(silent.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, silent.pid, os.WSTOPPED)
        self.reclaim(stage)
        self.start(stage)
        time.sleep(TOGETHER_SECONDS)
        os.kill(silent.pid, signal.SIGCONT)
        time.sleep(TOGETHER_SECONDS)
        silent.kill()
        silent.reap()
        for link in self.wiring.links.values():
            link.wake()  # It may have heard what was meant for its successor.
