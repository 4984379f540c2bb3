"""Holds what one run showed against what another one did, frame by frame. Which runs, and how they come about, is
`replay`'s."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from pipeline.media.access_unit import CLOCK_HZ
from pipeline.memory.slot_table import Outcome
from pipeline.recording.format import End, Frame, Happened, Header, Hole, Input, RecordingError, RecordingReader

TOLERANCE = 2.0
"""Of 255, by which the mean of a field of a picture may differ. Other processors, numbers of threads and versions of a
numerical library round differently, by one in a pixel; what the mean of 64 moves by so much is to be seen."""

Kind = Literal["picture", "size", "outcome", "missing", "extra"]


class Run(msgspec.Struct, frozen=True):
    """One side: what is in its recording; `file` is empty if that was not kept. `skips`: some link took the newest
    frame only, so that frames are left out as the clock has it. `whole`: it goes up to the end of its stream. `holes`:
    records that the recorder did not get, and how often it had to be started again."""

    file: str
    pipeline: str
    versions: dict[str, str]
    segments: int
    outcomes: dict[str, int]
    deaths: dict[str, int]
    skips: bool
    whole: bool
    truncated: bool
    holes: int


class Difference(msgspec.Struct, frozen=True):
    """One frame at which they differ, at `pts` (1/90000 s), `seconds` after the first that both could show. `largest`
    is that of the means of its fields, of 255. `missing`: only the original showed it; `extra`: only the replay did."""

    kind: Kind
    pts: int
    seconds: float
    original: str
    replayed: str
    largest: float | None = None


class ReplayReport(msgspec.Struct, frozen=True):
    """`identical` frames have the same pixels, `close` ones differ within the tolerance, `differing` ones in pixels,
    size or outcome. `missing` and `extra` are differences only where no link may leave frames out, and no recording has
    holes. `problems` are why the replay itself did not go as it should have, `left_out` the keys of the recorded
    topology that this version does not know any more."""

    same: bool
    speed: Literal["1", "max"]
    original: Run
    replayed: Run
    compared: int
    identical: int
    close: int
    differing: int
    missing: int
    extra: int
    first_difference: Difference | None
    problems: list[str]
    left_out: list[str] = []

    def lines(self) -> list[str]:
        """For people."""
        verdict = "same" if self.same else "DIFFERS"
        counts = f"{self.identical} identical, {self.close} close, {self.differing} differing"
        lines = [
            f"{verdict}: {self.compared} frames compared: {counts}; {self.missing} missing, {self.extra} extra",
            f"original: {_told(self.original)}",
            f"replayed: {_told(self.replayed)}",
        ]
        if (first := self.first_difference) is not None:
            by = "" if first.largest is None else f", by {first.largest:.1f} of 255"
            lines.append(
                f"first difference: {first.kind} at {first.seconds:.3f} s (pts {first.pts}): {first.original} there, "
                f"{first.replayed} here{by}"
            )
        if self.left_out:
            lines.append(f"left out of the recorded topology, not known any more: {', '.join(self.left_out)}")
        return lines + [f"problem: {problem}" for problem in self.problems]


class Side:
    """A recording as far as the comparison needs it."""

    def __init__(self, path: Path, *, is_kept: bool = True) -> None:
        """Raises RecordingError."""
        self.frames: dict[int, Frame] = {}
        header: Header | None = None
        outcomes: dict[str, int] = {}
        deaths: dict[str, int] = {}
        segments = holes = 0
        whole = False
        reader = RecordingReader(path)
        for record in reader:
            match record:
                case Header():
                    holes += header is not None  # Its recorder died, and another one went on.
                    header = header or record
                case Frame():
                    self.frames[record.pts] = record
                    outcomes[record.outcome] = outcomes.get(record.outcome, 0) + 1
                case Happened(name="died", stage=stage):
                    deaths[stage] = deaths.get(stage, 0) + 1
                case Input():
                    segments += record.last
                case Hole():
                    holes += record.lost
                case End():
                    whole = record.whole
        if header is None:
            raise RecordingError(f"{path}: holds nothing: it was cut off before its first record")
        self.header = header
        links = header.topology["links"].values()
        skips = any(link["policy"] == "latest" for link in links)
        self.run = Run(
            str(path) if is_kept else "",
            header.pipeline,
            header.versions,
            segments,
            outcomes,
            deaths,
            skips,
            whole,
            reader.truncated,
            holes,
        )


def compare(
    original: Side, replayed: Side, speed: Literal["1", "max"], tolerance: float, problems: list[str]
) -> ReplayReport:
    """`tolerance` is that of TOLERANCE; below 0: pixels must be the same."""
    skipping = original.run.skips or replayed.run.skips
    left_alone = _paused(original) | _paused(replayed)
    ours, theirs = (_comparable(side, skipping, left_alone) for side in (replayed, original))
    first = min(ours, default=0)
    theirs = {pts: frame for pts, frame in theirs.items() if pts >= first}  # What came before was fed before.
    if not original.run.whole:  # What came after was fed after; and of the last that was fed not all had come.
        last = min(max(ours, default=0), max(theirs, default=0))
        theirs, ours = ({pts: frame for pts, frame in side.items() if pts <= last} for side in (theirs, ours))
    found = {"identical": 0, "close": 0, "differing": 0}
    differences: list[Difference] = []
    for pts in sorted(theirs.keys() & ours.keys()):
        difference = _difference(theirs[pts], ours[pts], _seconds(first))
        if difference is None:
            found["identical"] += 1
        elif difference.kind == "picture" and (difference.largest or 0) <= tolerance:
            found["close"] += 1
        else:
            found["differing"] += 1
            differences.append(difference)
    missing, extra = sorted(theirs.keys() - ours.keys()), sorted(ours.keys() - theirs.keys())
    has_holes = original.run.holes or replayed.run.holes
    if not (replayed.run.skips or has_holes):
        differences += [_one_sided("missing", theirs[pts], _seconds(first)) for pts in missing]
    if not (original.run.skips or has_holes):
        differences += [_one_sided("extra", ours[pts], _seconds(first)) for pts in extra]
    if not found["identical"] + found["close"] + found["differing"]:
        problems = [*problems, "no frame could be compared"]
    return ReplayReport(
        same=not differences and not problems,
        speed=speed,
        original=original.run,
        replayed=replayed.run,
        compared=sum(found.values()),
        identical=found["identical"],
        close=found["close"],
        differing=found["differing"],
        missing=len(missing),
        extra=len(extra),
        first_difference=min(differences, key=_pts, default=None),
        problems=problems,
    )


def _comparable(side: Side, skipping: bool, left_alone: set[int]) -> dict[int, Frame]:
    """Pictures that a processor added lie between frames that were shown, so they depend on which those were; and what
    it was not given is not its work."""
    added = Outcome.ADDED.name.lower()
    return {
        pts: frame
        for pts, frame in side.frames.items()
        if pts not in left_alone and not (skipping and frame.outcome == added)
    }


def _paused(side: Side) -> set[int]:
    """The frames that came while somebody had paused the stream."""
    return {pts for pts, frame in side.frames.items() if frame.outcome == Outcome.PAUSED.name.lower()}


def _difference(there: Frame, here: Frame, seconds: Callable[[int], float]) -> Difference | None:
    pts = there.pts
    if there.outcome != here.outcome:
        return Difference("outcome", pts, seconds(pts), there.outcome, here.outcome)
    if (there.width, there.height) != (here.width, here.height):
        before, now = (f"{frame.width}x{frame.height}" for frame in (there, here))
        return Difference("size", pts, seconds(pts), before, now)
    if there.digest == here.digest:
        return None
    largest = max((abs(a - b) for a, b in zip(there.sketch, here.sketch, strict=False)), default=0)
    return Difference("picture", pts, seconds(pts), there.digest.hex()[:12], here.digest.hex()[:12], float(largest))


def _one_sided(kind: Literal["missing", "extra"], frame: Frame, seconds: Callable[[int], float]) -> Difference:
    there, here = (frame.outcome, "nothing") if kind == "missing" else ("nothing", frame.outcome)
    return Difference(kind, frame.pts, seconds(frame.pts), there, here)


def _seconds(first: int) -> Callable[[int], float]:
    return lambda pts: round((pts - first) / CLOCK_HZ, 4)


def _pts(difference: Difference) -> int:
    return difference.pts


def _told(run: Run) -> str:
    shown = ", ".join(f"{outcome} {count}" for outcome, count in run.outcomes.items()) or "no frame"
    died = ", ".join(f"{stage} {count}" for stage, count in run.deaths.items())
    deaths = f"; deaths: {died}" if died else ""
    holes = f"; it has holes ({run.holes})" if run.holes else ""
    cut = "; cut off in the middle of a record" if run.truncated else ""
    return f"{f'{run.file}: ' if run.file else ''}{run.segments} segments in; {shown}{deaths}{holes}{cut}"
