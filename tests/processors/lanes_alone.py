"""What a process of inference knows of its lanes, without the links and the launcher."""

from types import SimpleNamespace
from typing import Any

from pipeline.boot import FrameFormat, LaneBoot, LinkBoot
from pipeline.messages import Update
from pipeline.worker_lane import WorkerLane

LINK = LinkBoot("raw", -1, 2, "block", FrameFormat(2, 2), -1, -1)


class Worker:
    """As far as the parameters are concerned."""

    def __init__(self, lanes: int) -> None:
        self.lanes = [WorkerLane(LaneBoot(number, f"s{number}", number, LINK, LINK, "")) for number in range(lanes)]
        self.answers: list[tuple[int, Any, str]] = []
        self.boot = SimpleNamespace(on_request=True, of_several=lanes > 1)

    def lane(self, number: int) -> WorkerLane:
        return self.lanes[number]

    def updated(self, order: Update, params: Any, problem: str = "", parameters: Any = None) -> None:
        self.answers.append((order.number, params, problem))

    def error(self, name: str, **fields: object) -> None:
        raise AssertionError(name, fields)
