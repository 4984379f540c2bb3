"""Two reports against each other. Where the figures of both overlap, or differ by less than they scatter, there is no
difference: only what is beyond the noise of both is called better or worse."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from pipeline.bench.report import Report, Samples

FLOORS = {"max_fps": 0.08, "recovery_ms": 0.1}
FLOOR = 0.03
"""Parts of the old figure, by its kind: less is no difference, however little the few repeats happen to scatter. A
limit is known to 6 % (`search`), and a recovery depends on where in a segment the kill fell."""

STREAMS_FLOOR = 0.4
"""One stream fewer may be an accident, unless there are hardly more."""

HIGHER_IS_BETTER = ("max_fps", "max_streams")

Verdict = Literal["better", "worse", "same", "unknown"]


class Difference(msgspec.Struct, frozen=True):
    """One figure in both reports; `change` and `noise` are parts of the old median. What was measured only once has a
    spread that nobody knows."""

    name: str
    old: Samples
    new: Samples
    change: float
    noise: float
    verdict: Verdict


class Comparison(msgspec.Struct, frozen=True):
    """`gone`: what the old run had and the new one could not measure any more, in words. `unlike`: what differs between
    the two runs beside the program, and makes a difference say less."""

    differences: list[Difference]
    gone: list[str]
    unlike: list[str]

    @property
    def is_worse(self) -> bool:
        return bool(self.gone) or any(one.verdict == "worse" for one in self.differences)


def compare(old: Report, new: Report) -> Comparison:
    """Of all figures that both have."""
    before, after = old.figures(), new.figures()
    differences = [_difference(name, before[name], after[name]) for name in before if name in after]
    return Comparison(differences, list(_gone(old, new)), _unlike(old, new))


def _gone(old: Report, new: Report) -> Iterator[str]:
    """An interrupted run, and one that was asked for less, is no worse for what it lacks."""
    if new.interrupted:
        return
    fps = new.settings.reference_fps
    if old.settings.reference_fps == fps and old.reference and not new.reference:
        yield f"{fps:g} fps, which held, did not hold: there is no latency and no cost to compare"
    for stage in dict.fromkeys(recovery.stage for recovery in old.recoveries):
        failed_before, failed = _failed(old, stage), _failed(new, stage)
        if failed > failed_before:
            yield f"{stage} did not come back after {failed:.0%} of its kills, and after {failed_before:.0%} before"


def _failed(report: Report, stage: str) -> float:
    """Part of the stage's kills."""
    kills = [recovery for recovery in report.recoveries if recovery.stage == stage]
    return sum(bool(kill.problem) for kill in kills) / len(kills) if kills else 0.0


def _difference(name: str, old: Samples, new: Samples) -> Difference:
    base = abs(old.median) or 1.0
    floor = FLOORS.get(name.partition(".")[0], FLOOR) * base
    if name == "max_streams":
        floor = min(1.0, STREAMS_FLOOR * base)
    noise = max(old.spread, new.spread, floor)
    delta = new.median - old.median
    return Difference(name, old, new, delta / base, noise / base, _verdict(name, old, new, noise))


def _verdict(name: str, old: Samples, new: Samples, noise: float) -> Verdict:
    if name != "max_streams" and min(len(old.values), len(new.values)) < 2:
        return "unknown"
    delta = new.median - old.median
    apart = max(old.values) < min(new.values) or max(new.values) < min(old.values)
    if not apart or abs(delta) <= noise:
        return "same"
    return "better" if (delta > 0) == (name in HIGHER_IS_BETTER) else "worse"


def _unlike(old: Report, new: Report) -> list[str]:
    pairs = [("machine", old.machine.cpu, new.machine.cpu), ("cores", old.machine.cores, new.machine.cores)]
    pairs += [
        ("graphics cards", old.machine.gpus, new.machine.gpus),
        ("Python", old.machine.python, new.machine.python),
    ]
    for name in sorted(old.machine.versions.keys() | new.machine.versions.keys()):
        pairs.append((name, old.machine.versions.get(name), new.machine.versions.get(name)))
    if old.settings.digest and new.settings.digest:  # Older reports have none.
        pairs.append(("the topology beside that", old.settings.digest, new.settings.digest))
    for name in ("processor", "width", "height", "seconds", "latency_ms", "max_fps", "reference_fps"):
        pairs.append((name, getattr(old.settings, name), getattr(new.settings, name)))
    return [f"{what}: {a} -> {b}" for what, a, b in pairs if a != b]
