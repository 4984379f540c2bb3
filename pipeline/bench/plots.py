"""Plots as SVG text, drawn by hand so that a report is one file. Colours are classes, which the page's style gives a
light and a dark meaning: `s0` to `s5` are series, `good` and `bad` what they say."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

import msgspec

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 44
BAR_HEIGHT, BAR_GAP, BAR_LEFT, BAR_SAID = 22, 12, 110, 120
"""`BAR_LEFT` is the room for the names of rows, `BAR_SAID` for what is said behind them."""

TICKS = 5

STYLE = Path(__file__).with_name("report.css")

Scale = Callable[[float], float]
"""From a value to a place in the drawing."""


class Point(msgspec.Struct, frozen=True):
    """`hollow`: drawn as a ring. `text` is shown when the mouse rests on it."""

    x: float
    y: float
    text: str = ""
    hollow: bool = False


class Line(msgspec.Struct, frozen=True):
    """A series with its name in the legend; `style` is a class."""

    name: str
    style: str
    points: list[Point]


class Bar(msgspec.Struct, frozen=True):
    """A row of parts that lie behind one another: value, class, text. `dots` are single values drawn over it."""

    label: str
    parts: list[tuple[float, str, str]]
    said: str = ""
    dots: Sequence[float] = ()


def line_plot(
    lines: Sequence[Line], x_title: str, y_title: str, *, limit: tuple[float, str] | None = None, log_y: bool = False
) -> str:
    """`limit` is drawn across, with its name."""
    xs = [point.x for line in lines for point in line.points]
    ys = [point.y for line in lines for point in line.points] + ([limit[0]] if limit else [])
    if not xs:
        return ""
    x_ticks = ticks(0, max(xs))
    y_ticks = log_ticks(min(y for y in ys if y > 0), max(ys)) if log_y else ticks(0, max(ys))
    scale_x = _scale(0, x_ticks[-1], LEFT, WIDTH - RIGHT)
    scale_y = _scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP, log=log_y)
    parts = [*_grid(x_ticks, y_ticks, scale_x, scale_y, x_title, y_title)]
    if limit is not None:
        y = scale_y(limit[0])
        parts.append(f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT + 6, y - 5, limit[1], "start", "limit-text"))
    for line in lines:
        path = " ".join(f"{scale_x(point.x):.1f},{scale_y(point.y):.1f}" for point in line.points)
        parts.append(f'<polyline class="line {line.style}" points="{path}"/>')
        for point in line.points:
            ring = "ring" if point.hollow else "dot"
            place = f'cx="{scale_x(point.x):.1f}" cy="{scale_y(point.y):.1f}" r="4"'
            parts.append(f'<circle class="{ring} {line.style}" {place}>{_title(point.text)}</circle>')
    return svg(WIDTH, HEIGHT, parts) + legend([(line.name, line.style) for line in lines])


def bar_plot(
    bars: Sequence[Bar],
    title: str,
    names: Sequence[tuple[str, str]] = (),
    *,
    least: float = 0.0,
    log: bool = False,
    labels: float = BAR_LEFT,
) -> str:
    """Rows from above. `names` are the legend's; the axis goes up to `least` at least, and is logarithmic with `log`.
    `labels` is the room for the rows' names."""
    if not bars:
        return ""
    ends = [sum(value for value, _, _ in bar.parts) for bar in bars] + [dot for bar in bars for dot in bar.dots]
    axis = log_ticks(1, max(2, *ends)) if log else ticks(0, max(least, *ends) or 1.0)
    scale = _scale(axis[0], axis[-1], labels, WIDTH - BAR_SAID, log=log)
    height = TOP + len(bars) * (BAR_HEIGHT + BAR_GAP) + BOTTOM
    parts = []
    for tick in axis:
        x = scale(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}"/>')
        if not log or math.log10(tick).is_integer():
            parts.append(_text(x, height - BOTTOM + 16, number(tick), "middle"))
    parts.append(_text((labels + WIDTH - BAR_SAID) / 2, height - 8, title, "middle", "axis"))
    for row, bar in enumerate(bars):
        parts += _bar(bar, TOP + row * (BAR_HEIGHT + BAR_GAP) + BAR_GAP / 2, labels, axis[0], scale)
    return svg(WIDTH, height, parts) + legend(names)


def _bar(bar: Bar, y: float, labels: float, begin: float, scale: Scale) -> Iterator[str]:
    middle = y + BAR_HEIGHT / 2
    yield _text(labels - 8, middle + 4, bar.label, "end", "label")
    done = 0.0
    for value, style, text in bar.parts:
        x = scale(max(done, begin))
        width = max(0.5, scale(max(done + value, begin)) - x)
        shape = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR_HEIGHT}" rx="2"'
        yield f'<rect class="fill {style}" {shape}>{_title(text)}</rect>'
        done += value
    for dot in bar.dots:
        yield f'<circle class="mark" cx="{scale(dot):.1f}" cy="{middle:.1f}" r="3.5"/>'
    yield _text(scale(max([done, begin, *bar.dots])) + 8, middle + 4, bar.said, "start", "value")


def column_plot(edges: Sequence[str], counts: Sequence[float], x_title: str, y_title: str) -> str:
    """A histogram: a column for each count, whose place is named by its upper edge."""
    if not counts or not max(counts):
        return ""
    y_ticks = ticks(0, max(counts))
    scale_y = _scale(0, y_ticks[-1], HEIGHT - BOTTOM, TOP)
    step = (WIDTH - RIGHT - LEFT) / len(counts)
    parts = [*_grid([], y_ticks, lambda x: x, scale_y, x_title, y_title)]
    for index, (edge, count) in enumerate(zip(edges, counts, strict=True)):
        x, y = LEFT + index * step, scale_y(count)
        shape = f'x="{x + 1:.1f}" y="{y:.1f}" width="{step - 2:.1f}" height="{HEIGHT - BOTTOM - y:.1f}" rx="2"'
        parts.append(f'<rect class="fill s0" {shape}>{_title(f"up to {edge}: {count:g}")}</rect>')
        parts.append(_text(x + step / 2, HEIGHT - BOTTOM + 16, edge, "middle"))
    return svg(WIDTH, HEIGHT, parts)


def svg(width: float, height: float, parts: Iterable[str]) -> str:
    """A drawing that scales with the page."""
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img">{"".join(parts)}</svg>'


def picture(drawing: str, title: str) -> str:
    """A drawing as a file of its own, with its title and its style."""
    begin = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" aria-label="{escape(title)}"'
    style = f"<title>{escape(title)}</title><style>\n{STYLE.read_text()}</style>"
    return f"{drawing.replace('<svg', begin, 1).replace('>', '>' + style, 1)}\n"


def legend(names: Sequence[tuple[str, str]]) -> str:
    if len(names) < 2:
        return ""
    keys = "".join(f'<span><i class="key {style}"></i>{escape(name)}</span>' for name, style in names)
    return f'<p class="legend">{keys}</p>'


def ticks(low: float, high: float) -> list[float]:
    """Round values from `low` to at least `high`."""
    if high <= low:
        high = low + 1
    raw = (high - low) / TICKS
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    count = math.ceil((high - low) / step - 1e-9)
    return [low + index * step for index in range(count + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, 20, 50... around both."""
    values = [factor * 10.0**power for power in range(-3, 7) for factor in (1, 2, 5)]
    first = max((value for value in values if value <= low), default=values[0])
    last = min((value for value in values if value >= high), default=values[-1])
    inside = [value for value in values if first <= value <= last]
    return inside if len(inside) > 1 else [first, first * 10]


def number(value: float) -> str:
    return f"{value:,.6g}"


def _scale(low: float, high: float, begin: float, end: float, *, log: bool = False) -> Scale:
    if log:
        low, high = math.log10(low), math.log10(high)
    span = (high - low) or 1.0
    return lambda value: begin + ((math.log10(max(value, 1e-9)) if log else value) - low) / span * (end - begin)


def _grid(
    x_ticks: Sequence[float], y_ticks: Sequence[float], scale_x: Scale, scale_y: Scale, x_title: str, y_title: str
) -> Iterator[str]:
    for tick in y_ticks:
        y = scale_y(tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(LEFT - 8, y + 4, number(tick), "end")
    for tick in x_ticks:
        yield _text(scale_x(tick), HEIGHT - BOTTOM + 16, number(tick), "middle")
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_title, "middle", "axis")
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turned = f'transform="rotate(-90 14 {middle:.1f})"'
    yield f'<text class="axis" x="14" y="{middle:.1f}" text-anchor="middle" {turned}>{escape(y_title)}</text>'


def _text(x: float, y: float, text: str, anchor: str, style: str = "tick") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""
