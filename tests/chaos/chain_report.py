"""The checker of the chain: what became of every number, by the sink's log and by the tables around each reclaim."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import msgspec
import numpy as np

from pipeline.memory.slot_table import FILLING, IN_USE, MAX_ATTEMPTS, READY, Outcome, Slot, SupervisorTable
from pipeline.status import FrameCount

LOG = np.dtype([("seq", "<i8"), ("good", "<i4"), ("incarnation", "<i4")])
"""See `chain_stages.RECORD`."""


class Loss(msgspec.Struct, frozen=True):
    """A number that a reclaim gave up: why, and who had died on it."""

    seq: int
    outcome: Outcome
    stage: str
    incarnation: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A run in figures, and what was wrong with it: each of the fields in `FAULTS` must be 0."""

    numbered: int
    logged: int
    dropped: dict[str, int]
    kills: int
    retried: int
    logged_then_lost: int
    """frames with which the sink died once they were written down: in the log, and counted as crash"""
    seconds: float
    reclaim_us_p50: int | None
    by_number: bool
    """whether each drop is known by its number, and not only by its count"""

    corrupt: int
    """frames in the log with a wrong pixel"""
    out_of_order: int
    duplicates: int
    leaked: int
    """slots that are not FREE"""
    unexplained: int
    """numbers that are neither in the log nor counted as dropped; by number where each is known, else by count"""
    explained_twice: int
    """numbers with two reasons, or with one in spite of a place in the log, unless their sink died on them"""
    wrongly_poisoned: int
    """frames that were given up as poison after another number of deaths than MAX_ATTEMPTS"""
    unbalanced: int
    """how many of the three equations do not hold: that of each link and that of the chain"""
    failed: int
    """stages that ended with an error of their own"""
    halted: bool
    """the run could not go on"""

    @property
    def faults(self) -> dict[str, int]:
        """What was found, by kind. Empty: not one."""
        return {kind: found for kind in FAULTS if (found := getattr(self, kind))}

    def __str__(self) -> str:
        figures = {
            "numbered": self.numbered,
            "logged": self.logged,
            **self.dropped,
            "logged_then_lost": self.logged_then_lost,
            "kills": self.kills,
            "retried": self.retried,
            "reclaim_us_p50": self.reclaim_us_p50,
            "seconds": round(self.seconds, 1),
            "fps": round(self.numbered / self.seconds),
        }
        return " ".join(f"{name}={figure}" for name, figure in figures.items()) + f" faults={self.faults or 'none'}"


FAULTS = (
    "corrupt",
    "out_of_order",
    "duplicates",
    "leaked",
    "unexplained",
    "explained_twice",
    "wrongly_poisoned",
    "unbalanced",
    "failed",
    "halted",
)


class Witness:
    """Looks at the tables of both links and remembers what each reclaim did, frame by frame."""

    def __init__(self, raw: SupervisorTable, styled: SupervisorTable) -> None:
        self._raw = raw
        self._styled = styled
        self._losses: list[Loss] = []
        self._deaths: Counter[tuple[str, int]] = Counter()  # by stage and by the number of the frame in its hands
        self._reclaim_ns: list[int] = []
        self._retried = 0
        self._kept_too_often = 0

    def numbered(self) -> int:
        return self._raw.begun() + self._raw.dropped_before_slot()

    def progress(self) -> int:
        """Changes whenever a frame begins or ends anywhere."""
        return sum(table.begun() + sum(table.counts().values()) for table in (self._raw, self._styled))

    @contextmanager
    def reclaiming(self, stage: str, incarnation: int) -> Iterator[None]:
        """To be wrapped around one reclaim. Its stage is dead, so what it held stands still."""
        table = self._styled if stage == "sink" else self._raw
        state = FILLING if stage == "source" else IN_USE
        held = [(slot, self._seq(stage, slot), slot.generation) for slot in table.slots if slot.state == state]
        before = _losses(table)
        began = time.monotonic_ns()
        yield
        self._reclaim_ns.append(time.monotonic_ns() - began)
        kept = [seq for slot, seq, generation in held if (slot.state, slot.generation) == (READY, generation)]
        self._retried += len(kept)
        self._deaths.update((stage, seq) for _, seq, _ in held)
        self._kept_too_often += sum(self._deaths[stage, seq] >= MAX_ATTEMPTS for seq in kept)
        reasons = list((_losses(table) - before).elements())
        assert len(reasons) <= len(held) - len(kept), f"{stage} held {held}, kept {kept}, lost {reasons}"
        if len(held) == 1:  # The reader of a latest link may hold another frame, the one that it is dropping.
            self._losses += [Loss(held[0][1], outcome, stage, incarnation) for outcome in reasons]

    def _seq(self, stage: str, slot: Slot) -> int:
        """The number of the frame in `slot`. A source may have died before it wrote that down, but not before it
        counted: it was on the newest number."""
        return self.numbered() - 1 if stage == "source" else slot.seq

    def report(self, log: int, frames: FrameCount, kills: int, failed: int, halted: bool, seconds: float) -> Report:
        """Once every stage has ended. `log` is the sink's."""
        records = np.frombuffer(os.pread(log, os.fstat(log).st_size, 0), LOG)
        logged = set(records["seq"].tolist())
        died_on = self._logged_then_lost(records)
        dropped = sum(frames.dropped.values())
        by_number = dropped == len(self._losses)
        lost = {loss.seq for loss in self._losses} if by_number else None
        missing = set(range(self.numbered())) - logged
        equations = (_is_balanced(self._raw), _is_balanced(self._styled), frames.balanced)
        return Report(
            numbered=self.numbered(),
            logged=len(records),
            dropped=frames.dropped,
            kills=kills,
            retried=self._retried,
            logged_then_lost=len(died_on),
            seconds=seconds,
            reclaim_us_p50=round(median(self._reclaim_ns) / 1e3) if self._reclaim_ns else None,
            by_number=by_number,
            corrupt=int(np.count_nonzero(records["good"] != 1)),
            out_of_order=int(np.count_nonzero(np.diff(records["seq"]) < 0)),
            duplicates=len(records) - len(logged),
            leaked=self._raw.in_flight() + self._styled.in_flight(),
            unexplained=abs(len(missing) + len(died_on) - dropped) if lost is None else len(missing - lost),
            explained_twice=self._explained_twice(logged, died_on),
            wrongly_poisoned=self._wrongly_poisoned(),
            unbalanced=equations.count(False),
            failed=failed,
            halted=halted,
        )

    def _logged_then_lost(self, records: np.ndarray) -> set[Loss]:
        """The losses of a sink that died with the frame written down and not yet given back: it was its last."""
        last = dict(zip(records["incarnation"].tolist(), records["seq"].tolist(), strict=True))
        crashes = {loss for loss in self._losses if (loss.stage, loss.outcome) == ("sink", Outcome.CRASH)}
        return {loss for loss in crashes if last.get(loss.incarnation) == loss.seq}

    def _explained_twice(self, logged: set[int], died_on: set[Loss]) -> int:
        reasons = Counter(loss.seq for loss in self._losses)
        return reasons.total() - len(reasons) + sum(loss.seq in logged for loss in set(self._losses) - died_on)

    def _wrongly_poisoned(self) -> int:
        poisoned = {(loss.stage, loss.seq) for loss in self._losses if loss.outcome is Outcome.POISON}
        return sum(self._deaths[frame] != MAX_ATTEMPTS for frame in poisoned) + self._kept_too_often


def _is_balanced(table: SupervisorTable) -> bool:
    return table.begun() + table.dropped_before_slot() == sum(table.counts().values()) + table.in_flight()


def _losses(table: SupervisorTable) -> Counter[Outcome]:
    """The drops that only a reclaim counts."""
    return Counter({outcome: table.count(outcome) for outcome in (Outcome.CRASH, Outcome.POISON)})
