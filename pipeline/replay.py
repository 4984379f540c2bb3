"""Runs a recording through the pipeline again, and says whether the same comes out: a bug report that is a test.

    from pipeline.replay import replay

    def test_what_broke_last_night_is_mended() -> None:
        report = replay("tests/data/last_night.rec")
        assert report.same, report.lines()

The run is the launcher's own, in a process of its own, with the recording as its source and itself recorded.
"""

import contextlib
import copy
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from pipeline.import_path import ROOT
from pipeline.media.file_kinds import container_of
from pipeline.recording.format import Header, read_header
from pipeline.replay_report import TOLERANCE, ReplayReport, Side, compare
from pipeline.shipped import find_topology
from pipeline.topology_file import TopologyFileError, forget_unknown, load_topology, topology_from

__all__ = ["ReplayError", "ReplayReport", "replay", "replay_topology"]

Speed = Literal["1", "max"]

SHOWN_LINES = 12
"""Of what a replay that failed had to say."""

REPLAYED = ("stages", "links", "device", "frame_memory", "frame", "restart", "limits")
"""The keys of a topology that decide what comes out; the others are about the outside."""

NOT_REPLAYED = ("publisher", "recorder")
"""Workers that read and write channels beside the pipeline."""


class ReplayError(Exception):
    """The replay cannot be as it was asked for. The text is one line for the user."""


def replay(
    path: str | os.PathLike[str],
    *,
    speed: Speed = "max",
    topology: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    against: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    video: str | os.PathLike[str] | None = None,
    tolerance: float = TOLERANCE,
    exact: bool = False,
) -> ReplayReport:
    """Feed the recording at `path` to the pipeline that it is of and compare what comes out with what came out then.

    `speed`: "max": as fast as it goes, every frame processed; "1": in its own time, with the links as they were.
    `topology` is a file to be used in the place of the recorded one, `overrides` map dotted paths in it to values.
    `against` is another recording to compare with. `output` keeps the replay as a recording, `video` as an .mp4, .mov,
    .mkv or .ts. `tolerance` is TOLERANCE; `exact`: pixels must be the same.

    Raises ReplayError, RecordingError and TopologyFileError for what the caller can mend.
    """
    source = Path(path).resolve()
    header = read_header(source)
    original = Side(Path(against) if against is not None else source)
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        made = Path(output) if output is not None else Path(folder) / "replay.rec"
        if made.exists():
            raise ReplayError(f"{made}: is there already; give another name, or remove it")
        shown = Path(video) if video is not None else Path(folder) / "out.ts"
        try:
            container_of(shown)
        except ValueError as error:
            raise ReplayError(str(error)) from error
        changed, left_out = replay_topology(header, source, shown, speed, topology, overrides)
        problems = _run(changed, Path(folder), made)
        if not made.exists():
            raise ReplayError("\n".join(problems))
        replayed = Side(made, is_kept=output is not None)
        report = compare(original, replayed, speed, -1.0 if exact else tolerance, problems)
        return msgspec.structs.replace(report, left_out=left_out)


def replay_topology(
    header: Header,
    source: Path,
    video: Path,
    speed: Speed = "max",
    topology: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """The recorded topology, or another one, with the recording as its source, its video in a file, and nothing that
    reaches the outside; and the keys in it that this version does not know. Raises TopologyFileError for what is wrong
    with it."""
    raw = header.topology
    if topology is not None:
        raw = msgspec.to_builtins(load_topology(find_topology(Path(topology))))
    changed = {key: raw[key] for key in REPLAYED if key in raw} | {"name": f"replay-{uuid.uuid4().hex[:12]}"}
    changed["stages"] = {
        name: dict(stage) for name, stage in raw["stages"].items() if stage["worker"] not in NOT_REPLAYED
    }
    for stage in changed["stages"].values():
        match stage["worker"]:
            case "ingress":
                stage["source"] = {"recording": str(source), "real_time": speed == "1"}
            case "egress":
                stage["sink"] = {"file": str(video)}
            case "inference":  # A frame that is passed through while a model loads is none that it processed.
                one_process = {"replicas": None, "devices": list(stage.get("devices", ()))[:1]}
                stage |= {"spares": 0, "while_away": "last_frame"} | one_process
    if speed == "max":
        changed["links"] = {name: link | {"policy": "block"} for name, link in raw["links"].items()}
    changed = copy.deepcopy(changed)
    left_out = forget_unknown(changed)
    where = topology or f"topology of {source}"
    return msgspec.to_builtins(topology_from(changed, str(where), overrides)), left_out


def _run(topology: dict[str, Any], folder: Path, made: Path) -> list[str]:
    """Returns what went wrong. Raises TopologyFileError for what its processes find wrong with the topology."""
    file = folder / "replay.yaml"
    file.write_text(yaml.safe_dump(topology, sort_keys=False))
    done = subprocess.run(
        [sys.executable, str(ROOT / "launcher.py"), "run", str(file), "--record", str(made)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode == 2:
        with contextlib.suppress(OSError):
            made.unlink()
        raise TopologyFileError(lines[-1] if lines else "the replay could not be started")
    return [] if done.returncode == 0 else [f"the replay failed: {line}" for line in lines[-SHOWN_LINES:]]
