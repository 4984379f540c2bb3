"""How far a benchmark is: a bar and what was found on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress_bar import ProgressBar

BAR_WIDTH = 40


class ClockBar(ProgressColumn):
    """A bar that follows the clock: how long a step takes is known, and nobody has to say how far it is."""

    def render(self, task: Task) -> ProgressBar:
        total = task.total or 1.0
        return ProgressBar(total, min(total, task.elapsed or 0.0), width=BAR_WIDTH)


class BenchProgress:
    """A context manager. Every step that is done stays as a line; the one under way has the bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), ClockBar())
            self._bar = Progress(*columns, console=console, transient=True)

    def phase(self, title: str) -> None:
        self._console.print(title, markup=False, highlight=False)

    def begin(self, what: str, seconds: float) -> None:
        """`what` is under way, and will take about so long."""
        if self._bar is None:
            return
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(what, total=seconds)

    def done(self, what: str, text: str) -> None:
        self._console.print(f"  {what}: {text}", markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def print_warnings(console: Console, warnings: Sequence[str]) -> None:
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False, soft_wrap=True)
