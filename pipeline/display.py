"""What a person sees while a pipeline runs: a live table or plain event lines, and at the end the summary."""

import contextlib
import time
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline import log
from pipeline.launcher_log import LauncherLog
from pipeline.stage_output import Line
from pipeline.status import LinkStatus, Progress, StageStatus, Status
from pipeline.topology_logs import Logs

_STYLES = {
    "OK": "green",
    "READY": "green",
    "FINISHED": "blue",
    "FAILED": "bold red",
    "DEGRADED": "bold red",
    "IDLE": "dim",
}
_SLOT_STYLES = {"FILLING": "yellow", "READY": "green", "IN_USE": "cyan"}


PROGRESS_EVERY_S = 10.0
"""Between two lines that say how far a file is, where there is no terminal."""


class Terminal:
    """Draws to a console. Events scroll by above the live table; without a terminal there is no table, and a line now
    and then says how far a file is."""

    def __init__(self, console: Console, logs: Logs, pipeline: str) -> None:
        """Raises LogFileError."""
        self._console = console
        self._log = LauncherLog(logs, pipeline, self._write)
        self._open = contextlib.ExitStack()
        self._live: Live | None = None
        self._said = time.monotonic()
        if console.is_terminal and logs.format == "console":
            self._live = Live(console=console, auto_refresh=False, transient=True)

    def event(self, level: str, stage: str, name: str, fields: dict[str, str | int | float]) -> None:
        log.tell(level, name, {"stage": stage} | {key: value for key, value in fields.items() if value != ""})

    def output(self, stage: str, line: Line) -> None:
        if isinstance(line, str):
            log.info(log.OUTPUT, stage=stage, line=line)
        else:
            log.tell(line.level, line.event, {"stage": stage} | line.fields | {"stage": stage})

    def adopt(self, logs: Logs) -> None:
        self._log.adopt(logs)

    def show(self, status: Status) -> None:
        if self._live is not None:
            self._live.update(top_view(status), refresh=True)
        elif status.progress is not None and time.monotonic() - self._said >= PROGRESS_EVERY_S:
            self._said = time.monotonic()
            log.info("progress", stage="launcher", done=progress_words(status.progress), fps=f"{status.fps:.1f}")

    def __enter__(self) -> Self:
        self._open.enter_context(self._log)
        if self._live is not None:
            self._open.enter_context(self._live)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _write(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


def top_view(status: Status) -> Group:
    """Every stage, every link, every frame, as one picture; of a file, how far it is; of streams on request, which."""
    bars = [progress_bar(status.progress, status.fps)] if status.progress is not None else []
    return Group(stage_table(status), link_table(status), frame_text(status), *bars, *stream_lines(status))


def stream_lines(status: Status) -> list[Text]:
    """One line a stream on request that runs; one that says so where none does."""
    running = [stream for stream in status.streams if not stream.ended]
    if not running and any(stage.state == "IDLE" for stage in status.stages):
        return [Text("no stream: waits for a request")]
    return [
        Text(
            f"stream {stream.spec.stream}: {stream.state}, {stream.spec.subscribe_url} -> {stream.spec.publish_url}, "
            f"decoded {stream.frames.decoded}, delivered {stream.frames.delivered}, {stream.fps:.1f} fps"
        )
        for stream in running
    ]


def progress_bar(progress: Progress, fps: float) -> Table:
    """One line: a bar, and in words how far the file is, at how many frames a second, and how long it will take."""
    line = Table.grid(padding=(0, 1))
    total = progress.length_s or 1.0
    bar = ProgressBar(total, min(total, progress.done_s), width=40, pulse=progress.length_s is None)
    line.add_row(bar, f"{progress_words(progress)}, {fps:.1f} fps")
    return line


def progress_words(progress: Progress) -> str:
    """Such as `00:12 of 00:40 (30 %), 00:28 left`; of a file that does not state its length, `00:12`."""
    done = _clock(progress.done_s)
    if progress.length_s is None:
        return done
    share = min(1.0, progress.done_s / progress.length_s)
    left = "" if progress.left_s is None else f", {_clock(progress.left_s)} left"
    return f"{done} of {_clock(progress.length_s)} ({share:.0%}){left}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def slot_view(status: Status) -> Group:
    """Every slot of every link."""
    return Group(*(slot_table(link) for link in status.links))


def link_table(status: Status) -> Table:
    """One row a frame link."""
    table = Table()
    for heading in ("link", "from", "to", "policy"):
        table.add_column(heading)
    for heading in ("queued", "slots", "begun"):
        table.add_column(heading, justify="right")
    table.add_column("finished")
    for link in status.links:
        queued = sum(slot.state == "READY" for slot in link.slots)
        row = (str(n) for n in (queued, len(link.slots), link.begun))
        table.add_row(link.link, link.producer, link.consumer, link.policy, *row, _outcomes(link))
    return table


def stage_table(status: Status) -> Table:
    """One row a stage."""
    table = Table(title=f"{status.pipeline}: {status.state}", title_style=_STYLES.get(status.state, "yellow"))
    for heading, justify in (
        ("stage", "left"),
        ("state", "left"),
        ("pid", "right"),
        ("up s", "right"),
        ("restarts", "right"),
        ("in", "right"),
        ("out", "right"),
        ("fps in", "right"),
        ("fps out", "right"),
        ("p50 ms", "right"),
        ("p95 ms", "right"),
        ("CPU s", "right"),
        ("CPU %", "right"),
        ("RSS MB", "right"),
    ):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    for stage in status.stages:
        table.add_row(*_row(stage))
    return table


def frame_text(status: Status) -> Text:
    """The count equation and the rates, in two lines."""
    frames = status.frames
    dropped = ", ".join(f"{reason} {count}" for reason, count in frames.dropped.items()) or "none"
    p50, p95 = status.end_to_end_ms
    repeated = f", {status.repeated} pictures repeated" if status.repeated else ""
    repeated += f", {status.added} added" if status.added else ""
    before = {
        "skipped (damaged, or before the first key picture)": sum(stage.skipped for stage in status.stages),
        "capped (max_fps)": sum(stage.capped for stage in status.stages),
    }
    unframed = "".join(f"; {count} {what}" for what, count in before.items() if count)
    return Text(
        f"frames: decoded {frames.decoded} = delivered {frames.delivered} + dropped {sum(frames.dropped.values())}"
        f" ({dropped}) + in flight {frames.in_flight}{unframed}\n"
        f"output: {status.fps:.1f} fps{repeated}; latency end to end p50 {_number(p50)} ms, p95 {_number(p95)} ms"
    )


def slot_table(link: LinkStatus) -> Table:
    """One row a slot of a frame link, and the count of its frames below."""
    table = Table(
        title=f"{link.link}: {link.producer} -> {link.consumer}, {link.policy}{', ended' if link.ended else ''}",
        caption=_link_count(link),
        caption_justify="left",
    )
    for heading in ("slot", "state", "age ms", "frame", "owner", "deaths", "generation"):
        table.add_column(heading, justify="left" if heading in ("state", "owner") else "right")
    for index, slot in enumerate(link.slots):
        style = _SLOT_STYLES.get(slot.state, "")
        used = slot.state != "FREE"
        table.add_row(
            str(index),
            f"[{style}]{slot.state}[/]" if style else slot.state,
            f"{slot.age_ms:.1f}" if used else "",
            str(slot.seq) if used else "",
            slot.owner,
            str(slot.attempts) if used and slot.attempts else "",
            str(slot.generation),
        )
    return table


def _link_count(link: LinkStatus) -> str:
    published = f"published up to {link.published - 1}" if link.published else "nothing published"
    return f"begun {link.begun}, in flight {link.in_flight}, {published}; finished: {_outcomes(link)}"


def _outcomes(link: LinkStatus) -> str:
    return ", ".join(f"{outcome} {count}" for outcome, count in link.outcomes.items()) or "none"


def _row(stage: StageStatus) -> list[str]:
    p50, p95 = stage.latency_ms
    extra = " (input passed through)" if stage.passing_through else f" +{stage.spares}" if stage.spares else ""
    return [
        stage.stage,
        f"[{_STYLES.get(stage.state, 'yellow')}]{stage.state}[/]{extra}",
        str(stage.pid or "-"),
        f"{stage.uptime_s:.0f}",
        str(stage.restarts),
        str(stage.units_in),
        str(stage.units_out),
        _number(stage.rate_in),
        _number(stage.rate_out),
        _number(p50),
        _number(p95),
        f"{stage.cpu_s:.1f}",
        f"{stage.cpu_percent:.0f}",
        f"{stage.rss_bytes / 1e6:.0f}",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
