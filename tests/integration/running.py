"""A pipeline run as a user runs it: `python launcher.py run FILE`, watched over its log lines and its summary."""

import asyncio
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from pipeline.control import ControlLine
from pipeline.run_dir import control_endpoint, run_dir
from pipeline.status import Status
from pipeline.trickle.subscriber import TrickleSubscriber

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0

SPINE = ("ingress", "decode", "inference", "egress")


def topology(name: str, out: Path, source: Path | None, **changes: Any) -> dict[str, Any]:
    """The demo's topology, small, on free ports, every frame delivered; without the API and the still, at which few
    tests look. In the names of `changes`, __ is a dot."""
    demo = yaml.safe_load((ROOT / "configs/demo.yaml").read_text())
    demo |= {"name": name, "relay": {"port": 0}, "frame": {"width": 256, "height": 256}}
    del demo["api"]
    demo["links"]["raw"]["policy"] = "block"
    demo["stages"]["inference"]["processor"] = {"callable": "pipeline.processors.torch_ops:invert", "threads": 1}
    demo["stages"]["egress"]["encoder"]["preset"] = "ultrafast"
    demo["stages"]["recorder"] = {"worker": "recorder", "channel": "output", "file": str(out / "seen.mp4")}
    if source is None:
        del demo["stages"]["publisher"]
    else:
        demo["stages"]["publisher"]["file"] = str(source)
    for dotted, value in changes.items():
        section = demo
        *parents, last = dotted.split("__")
        for key in parents:
            section = section[key]
        section[last] = value
    return demo


class RunningPipeline:
    """A launcher and its workers. Leaving the `with` block ends them, however the test went."""

    def __init__(self, topology: dict[str, Any], folder: Path, *options: str) -> None:
        self.name = topology["name"]
        self.file = folder / f"{self.name}.yaml"
        self.file.write_text(yaml.safe_dump(topology, sort_keys=False))
        self._summary = folder / "summary.json"
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "launcher.py", "run", str(self.file), "--summary", str(self._summary), *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="launcher-output")
        self._reader.start()

    def __enter__(self) -> "RunningPipeline":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()  # Its workers die with it.
        self.process.wait()
        for pid in self.pids():
            wait_until_gone(pid)
        self._reader.join()

    def wait_for(self, pattern: str, count: int = 1) -> re.Match[str]:
        """The `count`-th line that matches; fails with the whole log when the launcher ends without one."""
        with self._news:
            self._news.wait_for(lambda: self._matches(pattern, count) or self._ended(), PATIENCE_S)
            matches = self._matches(pattern, count)
            assert matches, f"no line {count} like {pattern!r} in:\n" + "\n".join(self.lines)
            return matches[count - 1]

    def wait_for_delivered(self, count: int) -> None:
        """Until so many more frames have been shown."""
        with ControlLine(control_endpoint(self.name)) as line:
            wanted = line.status().frames.delivered + count
            self.wait_until(lambda: line.status().frames.delivered >= wanted)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Nobody tells of what is only in a counter."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)

    def pid_of(self, stage: str, life: int = 1) -> int:
        return int(self.wait_for(rf"started stage={stage} pid=(\d+)", life)[1])

    def pids(self) -> list[int]:
        """Every process that the launcher has started so far."""
        return [
            int(match[1]) for line in list(self.lines) if (match := re.search(r"started stage=\S+ pid=(\d+)", line))
        ]

    def url_of(self, service: str) -> str:
        return self.wait_for(rf"ready stage={service} .*detail=(http://\S+)")[1]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def update(self, params: str, stage: str = "inference", *options: str) -> tuple[int, str]:
        """`launcher.py update`: its exit code, and what it said."""
        done = subprocess.run(
            [sys.executable, "launcher.py", "update", stage, params, self.name, *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def read_channel(self, name: str) -> Callable[[], bytes]:
        """Subscribe to a channel of the relay's from its first segment on. What is returned waits until the channel
        ends, and gives everything that was in it."""
        url = f"{self.url_of('relay')}/{name}"
        read: list[bytes] = []
        reader = threading.Thread(target=lambda: asyncio.run(_read_channel(url, read)), name="channel-reader")
        reader.start()

        def all_of_it() -> bytes:
            reader.join(PATIENCE_S)
            return b"".join(read)

        return all_of_it

    def end(self) -> int:
        """Wait for the launcher to end by itself and return its exit code."""
        try:
            code = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {PATIENCE_S:.0f} s:\n{self.log}") from None
        self._reader.join()
        return code

    def summary(self) -> Status:
        return msgspec.json.decode(self._summary.read_bytes(), type=Status)

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    @property
    def folder(self) -> Path:
        return run_dir(self.name)

    def _matches(self, pattern: str, count: int) -> list[re.Match[str]]:
        matches = [match for line in self.lines if (match := re.search(pattern, line))]
        return matches if len(matches) >= count else []

    def _ended(self) -> bool:
        return not self._reader.is_alive()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()
        with self._news:
            self._news.notify_all()


async def _read_channel(url: str, read: list[bytes]) -> None:
    async with TrickleSubscriber(url, start_seq=0) as subscriber:
        while (segment := await subscriber.next()) is not None:
            read.append(await segment.read_all())


def wait_until_gone(pid: int) -> bool:
    """Whether the process is gone within PATIENCE_S; waits on the kernel's word, not on the clock."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], PATIENCE_S)[0])
    finally:
        os.close(pidfd)
