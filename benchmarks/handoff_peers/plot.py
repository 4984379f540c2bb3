"""The figures as a drawing: p50 with a whisker up to p99, by frame size, one panel a placement."""

from pathlib import Path

from matplotlib import pyplot

from benchmarks.handoff_peers.catalogue import FRAMES, TRANSPORTS
from benchmarks.handoff_peers.figures import Figures, Key
from benchmarks.handoff_peers.report import PLACEMENTS

SPREAD = 0.6
"""Of the distance between two frame sizes, over which the transports of one size stand side by side."""


def draw(figures: Figures, file: Path) -> None:
    """Every transport with the cheapest producer that it allows: in place, or else copying."""
    placements = [placement for placement in PLACEMENTS if any(key.placement == placement for key in figures)]
    canvas, panels = pyplot.subplots(
        1, len(placements), figsize=(6 * len(placements), 5), sharey=True, squeeze=False, layout="constrained"
    )
    frames = [name for name in FRAMES if any(key.frame == name for key in figures)]
    transports = [name for name in TRANSPORTS if any(key.transport == name for key in figures)]
    for panel, placement in zip(panels[0], placements, strict=True):
        for index, transport in enumerate(transports):
            copies = not TRANSPORTS[transport].in_place
            shift = SPREAD * (index / max(1, len(transports) - 1) - 0.5)
            row = [figures[Key(placement, transport, copies, frame, "ping-pong")] for frame in frames]
            p50 = [figure.p50_us for figure in row]
            above = [figure.p99_us - figure.p50_us for figure in row]
            panel.errorbar(
                [place + shift for place in range(len(frames))],
                p50,
                yerr=[[0.0] * len(row), above],
                label=f"{transport} (copies)" if copies else transport,
                marker="o",
                markersize=4,
                linewidth=0.8,
                capsize=2,
            )
        panel.set_title(PLACEMENTS[placement])
        panel.set_yscale("log")
        panel.set_xticks(range(len(frames)), [FRAMES[name].name.replace(" ", "\n") for name in frames])
        panel.grid(axis="y", which="major", alpha=0.3)
    panels[0][0].set_ylabel("one way, µs: p50, whisker to p99")
    handles, labels = panels[0][0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=5, fontsize="small")
    canvas.savefig(file)
