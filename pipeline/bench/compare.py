"""Two reports against each other. Where the figures of both overlap, or differ by less than they scatter, there is no
difference: only what is beyond the noise of both is called better or worse."""

from typing import Literal

import msgspec

from pipeline.bench.report import Report, Samples

FLOORS = {"max_fps": 0.08, "recovery_ms": 0.1}
FLOOR = 0.03
"""Parts of the old figure, by its kind: less is no difference, however little the few repeats happen to scatter. A
limit is known to 6 % (`search`), and a recovery depends on where in a segment the kill fell."""

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
    """`unlike`: what differs between the two runs beside the program, and makes a difference say less."""

    differences: list[Difference]
    unlike: list[str]

    @property
    def worse(self) -> list[Difference]:
        return [one for one in self.differences if one.verdict == "worse"]


def compare(old: Report, new: Report) -> Comparison:
    """Of all figures that both have."""
    before, after = old.figures(), new.figures()
    differences = [_difference(name, before[name], after[name]) for name in before if name in after]
    return Comparison(differences, _unlike(old, new))


def _difference(name: str, old: Samples, new: Samples) -> Difference:
    base = abs(old.median) or 1.0
    floor = 1.0 if name == "max_streams" else FLOORS.get(name.partition(".")[0], FLOOR) * base
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
    for name in ("processor", "width", "height", "seconds", "latency_ms", "max_fps", "reference_fps"):
        pairs.append((name, getattr(old.settings, name), getattr(new.settings, name)))
    return [f"{what}: {a} -> {b}" for what, a, b in pairs if a != b]
