"""In the place of an interpreter, as `python -P -m workers.X ...`: the first process of a stage comes to its end in
another way than it should.

Once its work is done it waits for somebody to open the FIFO that AT_THE_END names. Then it is killed, or it leaves
without its last word, as AT_THE_END_IT says: `is_killed` or `says_nothing`.
"""

import os
import runpy
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from pipeline import worker
from pipeline.messages import Finished, ToLauncher
from pipeline.worker import Worker

as_usual = worker.run


def run(main: Callable[[Worker], None]) -> NoReturn:
    def at_the_end(process: Worker) -> None:
        main(process)
        if process.boot.incarnation > 1:
            return
        Path(os.environ["AT_THE_END"]).read_bytes()
        if os.environ["AT_THE_END_IT"] == "is_killed":
            os.kill(os.getpid(), signal.SIGKILL)
        send = process._send

        def send_others(message: ToLauncher | None) -> None:
            if not isinstance(message, Finished):
                send(message)

        process._send = send_others  # type: ignore[method-assign]

    as_usual(at_the_end)


worker.run = run
sys.argv = sys.argv[3:]
runpy.run_module(sys.argv[0], run_name="__main__")
