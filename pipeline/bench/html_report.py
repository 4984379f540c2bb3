"""The report as one HTML file: what was found, with plots, what it was found on, and how to find it again. It needs
nothing from elsewhere and follows the reader's choice of light or dark."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from pipeline.bench import plots
from pipeline.bench.compare import Comparison
from pipeline.bench.report import LATENCY_EDGES_MS, Report, Step
from pipeline.bench.summary import difference_cells, headline, in_words, stage_cells, step_titles, title_of

STAGES = ("ingress", "decode", "inference", "egress", "relay", "launcher")
SERIES = {stage: f"s{index}" for index, stage in enumerate(STAGES)}
MAX_LOSS_SHOWN_MS = 2000.0
"""A latency beyond is drawn there: what is so late says only that the load does not hold."""


def html_report(report: Report, comparison: Comparison | None = None) -> str:
    """The whole page."""
    parts = [
        f"<h1>{escape(report.settings.topology)}</h1>",
        f'<p class="lead">{escape(_sentence(headline(report)))}.</p>',
    ]
    parts += [f'<p class="warning">{escape(text)}</p>' for text in _doubts(report)]
    parts += _tiles(report)
    if comparison is not None:
        parts += _comparison(comparison)
    parts += _load(report)
    parts += _latency(report)
    parts += _stages(report)
    parts += _recoveries(report)
    parts += _steps(report)
    parts += _origin(report)
    return whole_page(f"bench {report.settings.topology}", parts)


def whole_page(title: str, parts: Iterable[str]) -> str:
    """A page of these parts, which are HTML, with the report's style."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    head += f"<style>\n{plots.STYLE.read_text()}</style>"
    body = "\n".join(parts)
    return f"<!doctype html>\n<html lang=en>\n<head>{head}</head>\n<body><main>\n{body}\n</main></body></html>\n"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _doubts(report: Report) -> Iterator[str]:
    yield from report.warnings
    if report.interrupted:
        yield "The run was interrupted: this is what was measured before."
    if report.problem:
        yield f"The run did not come to its end: {report.problem}"
    if any(step.numbered is None and step.arrived for step in report.steps):
        yield "No number can be read behind this processor: pictures are known by their time stamps alone."


def _tiles(report: Report) -> Iterator[str]:
    figures = report.figures()
    shown = [("max_fps", "fps, one stream"), ("max_streams", f"streams at {report.settings.reference_fps:g} fps")]
    shown += [(f"latency_p{percent}_ms", f"ms p{percent}") for percent in (50, 95, 99)]
    tiles = [(figures[name], text) for name, text in shown if name in figures]
    cells = "".join(f"<div><b>{samples.median:.4g}</b><span>{escape(text)}</span></div>" for samples, text in tiles)
    yield f'<section class="tiles">{cells}</section>'


def _comparison(comparison: Comparison) -> Iterator[str]:
    yield "<h2>Against the earlier report</h2>"
    rows = [
        [*difference_cells(one), f'<span class="{_judgement(one.verdict)}">{one.verdict}</span>']
        for one in comparison.differences
    ]
    yield table(["figure", "old", "new", "change", "noise", "verdict"], rows, raw_last=True)
    yield (
        '<p class="note">A difference is one only if the values of the two runs lie apart and their medians differ by '
        "more than either run scatters.</p>"
    )
    yield from (f'<p class="warning">Worse: {escape(line)}.</p>' for line in comparison.gone)
    if comparison.unlike:
        yield f'<p class="warning">The two runs differ in {escape("; ".join(comparison.unlike))}.</p>'


def _judgement(verdict: str) -> str:
    return {"better": "good", "worse": "bad"}.get(verdict, "same")


def _load(report: Report) -> Iterator[str]:
    steps = sorted((step for step in report.steps if step.streams == 1 and step.arrived), key=lambda step: step.fps)
    if not steps:
        return
    yield "<h2>Latency by load</h2>"
    lines = [
        plots.Line(name, style, [_point(step, getattr(step, attribute)) for step in steps])
        for name, style, attribute in (("p50", "s0", "p50_ms"), ("p95", "s1", "p95_ms"), ("p99", "s2", "p99_ms"))
    ]
    limit = report.settings.latency_ms, f"limit of p95, {report.settings.latency_ms:g} ms"
    yield plots.line_plot(lines, "fps of the source", "ms from source to viewer", limit=limit, log_y=True)
    yield '<p class="note">A ring is a load that was not sustained. Loads that were tried again are drawn again.</p>'
    streams = [step for step in report.steps if step.purpose == "streams"]
    if streams:
        yield "<h2>Streams at once</h2>"
        points = [
            plots.Point(step.streams, step.out_fps, _said(step), not step.sustained)
            for step in sorted(streams, key=lambda step: step.streams)
        ]
        yield plots.line_plot([plots.Line("pictures a second", "s0", points)], "streams", "fps at all viewers")


def _point(step: Step, value: float) -> plots.Point:
    return plots.Point(step.fps, min(max(value, 0.1), MAX_LOSS_SHOWN_MS), _said(step), not step.sustained)


def _said(step: Step) -> str:
    state = "sustained" if step.sustained else "; ".join(step.failings)
    latency = f"p50 {step.p50_ms:.1f}, p95 {step.p95_ms:.1f}, p99 {step.p99_ms:.1f} ms"
    return f"{step.streams} x {step.fps:g} fps: {latency}; {state}"


def _latency(report: Report) -> Iterator[str]:
    steps = report.reference
    if not steps:
        return
    counts = [sum(step.latencies[index] for step in steps) for index in range(len(LATENCY_EDGES_MS) + 1)]
    edges = [*(f"{edge:g}" for edge in LATENCY_EDGES_MS), "more"]
    used = [index for index, count in enumerate(counts) if count]
    if not used:
        return
    first, last = max(0, used[0] - 1), min(len(counts), used[-1] + 2)
    yield f"<h2>Latency at {steps[0].fps:g} fps</h2>"
    yield plots.column_plot(edges[first:last], counts[first:last], "ms from source to viewer, up to", "pictures")


def _stages(report: Report) -> Iterator[str]:
    titled = list(step_titles(report))
    if not titled:
        return
    yield "<h2>What limits it</h2>"
    for title, step in titled:
        yield f"<h3>{escape(title.capitalize())}</h3>"
        yield plots.bar_plot(_busy_bars(step), "% of the time at work on a frame", least=100)
        rows = [[use.stage, *stage_cells(use)] for use in step.stages]
        rows.append(["source and viewer", "", "", f"{step.harness_cores:.2f}", "", ""])
        rows.append(["others", "", "", f"{step.cores_others:.2f}", "", ""])
        rows += [[f"GPU {card}", f"{share:.0%}", "", "", "", ""] for card, share in step.gpus.items()]
        yield table(["stage", "busy", "busy ms a frame", "cores", "CPU ms a picture", "RSS MB"], rows)
    bars = [
        plots.Bar(
            f"{step.fps:g} fps",
            [(use.cpu_ms, SERIES[use.stage], f"{use.stage}: {use.cpu_ms:.2f} ms") for use in step.stages],
            f"{sum(use.cpu_ms for use in step.stages):.1f} ms",
        )
        for _, step in titled
    ]
    yield "<h3>CPU time of a picture</h3>"
    yield plots.bar_plot(bars, "CPU ms a picture", [(stage, SERIES[stage]) for stage in STAGES])


def _busy_bars(step: Step) -> list[plots.Bar]:
    shares = [(use.stage, use.busy, f"{use.busy:.0%}") for use in step.stages if use.busy is not None]
    return [plots.Bar(stage, [(100 * busy, SERIES[stage], said)], said) for stage, busy, said in shares]


def _recoveries(report: Report) -> Iterator[str]:
    if not report.recoveries:
        return
    yield f"<h2>kill -9 of each stage at {report.recoveries[0].fps:g} fps</h2>"
    bars = []
    for stage in dict.fromkeys(found.stage for found in report.recoveries):
        times = [found.new_ms for found in report.recoveries if found.stage == stage and not found.problem]
        if times:
            middle = sorted(times)[len(times) // 2]
            bars.append(plots.Bar(stage, [(middle, SERIES[stage], f"{middle:.0f} ms")], f"{middle:.0f} ms", times))
    yield plots.bar_plot(bars, "ms from the kill to a new picture at the viewer")
    rows = [
        [found.stage, *_recovery_cells(found.problem, found.new_ms, found.gap_ms, found.dark_ms), str(found.lost)]
        for found in report.recoveries
    ]
    yield table(["killed", "to a new picture", "longest without a new one", "without any", "pictures lost"], rows)


def _recovery_cells(problem: str, *values: float) -> list[str]:
    return [problem, "", ""] if problem else [f"{value:.0f} ms" for value in values]


def _steps(report: Report) -> Iterator[str]:
    if not report.steps:
        return
    yield "<h2>Every step</h2>"
    rows = [
        [
            step.purpose,
            f"{step.streams} x {step.fps:g}",
            f"{step.arrived} of {step.sent}",
            ", ".join(f"{count} {reason}" for reason, count in ({"late": step.late} | step.dropped).items() if count),
            f"{step.p50_ms:.1f} / {step.p95_ms:.1f} / {step.p99_ms:.1f}",
            "" if step.numbered is None else f"{step.numbered:.1%}",
            f"{step.cores_busy:.2f}",
            "held" if step.sustained else "; ".join(step.failings),
        ]
        for step in report.steps
    ]
    headings = ["for", "streams x fps", "arrived", "dropped", "ms p50 / p95 / p99", "right number", "cores busy", ""]
    yield table(headings, rows)


def _origin(report: Report) -> Iterator[str]:
    machine, settings = report.machine, report.settings
    yield "<h2>Where and how</h2>"
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    rows = [
        ["began", report.began],
        ["command", settings.command],
        ["processor", settings.processor],
        [
            "source",
            f"H.264 {settings.width}x{settings.height}, x264 superfast, CRF 23, a key picture a second, no sound",
        ],
        ["step", f"{settings.seconds:g} s after a warm-up, {settings.repeats} repeats"],
        ["machine", f"{machine.cpu}, {machine.cores} cores, {machine.memory_mb} MB"],
        ["graphics cards", ", ".join(machine.gpus) or "none that the driver tells of"],
        ["system", f"{machine.system}, Python {machine.python}"],
        ["versions", versions],
        ["load at the start", f"{machine.load:g}"],
    ]
    rows += [[title_of(name), in_words(samples)] for name, samples in report.figures().items()]
    yield table(["", ""], rows)
    yield (
        '<p class="note">Sustained: at least 99 % of what was sent arrived, next to none was dropped as late, the 95th '
        f"percentile of the latency stayed below {settings.latency_ms:g} ms and did not grow. Latency: from the "
        "picture's being written at the source until its last byte is at the viewer. Source and viewer run on the same "
        "machine and take their part of it.</p>"
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, raw_last: bool = False) -> str:
    """`raw_last`: the last cell of each row is HTML."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings) if any(headings) else ""
    lines = []
    for row in rows:
        cells = [escape(cell) for cell in (row[:-1] if raw_last else row)] + ([row[-1]] if raw_last else [])
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    top = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f'<div class="scroll"><table>{top}<tbody>{"".join(lines)}</tbody></table></div>'
