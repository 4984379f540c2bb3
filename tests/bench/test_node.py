"""What the benchmark knows of the pipeline that it runs, without running one."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.bench import node
from pipeline.bench.benched import benched
from pipeline.bench.node import Heard, Node, NodeFailed
from pipeline.control import LauncherSilent
from pipeline.shipped import find_topology
from pipeline.topology_file import load_topology


@pytest.fixture
def idle_node(tmp_path: Path) -> Node:
    """One that was not started."""
    return Node(benched(load_topology(find_topology(Path("demo")))), tmp_path)


class Silent:
    """A control line on which nobody answers."""

    opened = 0

    def __init__(self, *_: object) -> None:
        Silent.opened += 1

    def status(self) -> None:
        raise LauncherSilent(2.0)

    def __exit__(self, *_: object) -> None: ...


def test_a_launcher_that_is_silent_is_asked_again_on_another_line(
    idle_node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    Silent.opened = 0
    monkeypatch.setattr(node, "ControlLine", Silent)
    monkeypatch.setattr(idle_node, "_control", Silent(), raising=False)
    monkeypatch.setattr(idle_node, "_endpoint", "ipc://nowhere", raising=False)
    monkeypatch.setattr(idle_node, "_launcher", SimpleNamespace(poll=lambda: None), raising=False)
    with pytest.raises(LauncherSilent):
        idle_node.status()
    assert Silent.opened == node.QUESTIONS


def test_a_pipeline_that_has_ended_is_told_with_the_end_of_its_log(
    idle_node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as ended:
        ended.wait()
    monkeypatch.setattr(idle_node, "_launcher", ended, raising=False)
    (tmp_path / f"{idle_node.benched.name}.log").write_text("why it ended\n")
    with pytest.raises(NodeFailed, match="exit code 3:\nwhy it ended"):
        idle_node.check()


def test_a_successor_of_inference_has_the_links_when_it_is_active(idle_node: Node) -> None:
    idle_node.events = [
        Heard(1.0, "inference", "active"),
        Heard(3.0, "inference", "ready"),
        Heard(4.0, "decode", "active"),
        Heard(4.5, "inference", "active", stands_in=True),
        Heard(5.0, "inference", "active"),
    ]
    assert idle_node.taken_over("inference", "inference", 2.0) == 5.0
    assert idle_node.taken_over("inference", "decode", 2.0) == 3.0
    assert idle_node.taken_over("inference", "inference", 6.0) is None
