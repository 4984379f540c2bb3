"""A module that runs beside a benchmark in a process of its own, with a pipe between the two: a source, a viewer."""

import multiprocessing
import os
import subprocess
from functools import partial
from typing import Any, Self

from pipeline.import_path import ROOT
from pipeline.parent_death import die_with

ANSWER_S = 60.0


class HelperDied(RuntimeError):
    """It ended, or did not answer. The text names it."""


class HelperProcess:
    """A context manager around `python -m MODULE ARGUMENTS... FD`, where FD is its end of the pipe; modules come from
    this program and not from the current folder. It does not outlive
    this process. Ctrl-C reaches this process alone, which then ends it. Raises HelperDied when it dies or does not
    answer."""

    def __init__(self, python: str, module: str, *arguments: str) -> None:
        self._name = " ".join([module, *arguments])
        self._pipe, theirs = multiprocessing.Pipe()
        folders = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
        self._process = subprocess.Popen(
            [python, "-P", "-m", module, *arguments, str(theirs.fileno())],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(folders)},
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            preexec_fn=partial(die_with, os.getpid(), "benchmark"),
        )
        theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """What it knew it has said; an interpreter with torch in it takes seconds to leave by itself."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()

    def send(self, message: Any) -> None:
        try:
            self._pipe.send(message)
        except (BrokenPipeError, ConnectionResetError):
            raise HelperDied(f"{self._name} has ended") from None

    def answers_within(self, seconds: float) -> bool:
        return self._pipe.poll(seconds)

    def answer(self, seconds: float = ANSWER_S) -> Any:
        try:
            if self._pipe.poll(seconds):
                return self._pipe.recv()
        except (EOFError, ConnectionResetError):
            pass
        raise HelperDied(f"{self._name} did not answer")
