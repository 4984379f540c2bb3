"""What --input, --output, --start, --duration, --resume and --record make of a topology, and what such a run leaves
behind."""

import os
from pathlib import Path

import msgspec

from pipeline.media.access_unit import CLOCK_HZ
from pipeline.media.excerpt import FIRST_PTS
from pipeline.media.file_kinds import container_of, growing_file
from pipeline.media.ts_tail import read_tail
from pipeline.topology import Egress, Ingress, Publisher, Topology
from pipeline.topology_file import TopologyFileError
from pipeline.topology_graph import check_graph
from pipeline.topology_sections import Recording, Source
from pipeline.topology_values import TopologyError

HAS_PUBLISHER = "its publisher plays a file live; needed is a topology that reads one, such as configs/file.yaml"
ONE_SOURCE = {"trickle": None, "recording": None, "real_time": False, "token": None, "tls": None}
"""What a source that is a file does not say."""

NO_FILE = "the source is no file; give --input FILE too"
ON_REQUEST = "streams.on_request is on: whoever asks for a stream says what it reads and writes; see docs/operations.md"


class FileRun(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for on the command line; None where nothing was. Seconds are those of the input."""

    input: Path | None = None
    output: Path | None = None
    start: float | None = None
    duration: float | None = None
    resume: bool = False
    record: Path | None = None

    def apply(self, topology: Topology) -> Topology:
        """The topology with these in it. Raises TopologyFileError, one line that begins with the option's name."""
        if self.record is not None:
            topology = _with_recording(topology, self.record)
        about_files = [key for key in self.__struct_fields__ if key != "record"]
        if topology.streams.on_request and (given := [key for key in about_files if getattr(self, key)]):
            raise TopologyFileError(f"--{given[0]}: {ON_REQUEST}")
        if self.input is not None:
            topology = _with_input(topology, self.input)
        if self.output is not None:
            topology = _with_output(topology, self.output)
        if self.start is not None or self.duration is not None:
            topology = self._with_excerpt(topology)
        if self.resume:
            topology = _resumed(topology)
        try:
            check_graph(topology)
        except TopologyError as error:
            raise TopologyFileError(str(error)) from error
        return topology

    def _with_excerpt(self, topology: Topology) -> Topology:
        option = "--start" if self.start is not None else "--duration"
        _check_reads_file(topology, option)
        asked = {"start": self.start, "duration": self.duration}
        return _change(topology, Ingress, "source", option, **{key: x for key, x in asked.items() if x is not None})


def unfinished(topology: Topology) -> Path | None:
    """What egress has written of a file that is not yet under its name, if it is there."""
    path = _output_of(topology)
    if path is None:
        return None
    growing = growing_file(path)
    return growing if growing != path and growing.exists() else None


def _with_recording(topology: Topology, file: Path) -> Topology:
    recording = topology.recording or Recording(file="-")
    return msgspec.structs.replace(topology, recording=msgspec.structs.replace(recording, file=str(file)))


def _with_input(topology: Topology, file: Path) -> Topology:
    """Played live by the topology's publisher, or read by ingress when it has none."""
    if not file.exists():
        raise TopologyFileError(f"--input {file}: no such file")
    if file.is_dir():
        raise TopologyFileError(f"--input {file}: is a directory; needed is one video file")
    if not os.access(file, os.R_OK):
        raise TopologyFileError(f"--input {file}: may not be read; its permissions do not allow it to this user")
    if file.is_file() and not file.stat().st_size:
        raise TopologyFileError(f"--input {file}: is empty")
    if (publisher := topology.stage_of(Publisher)) is not None:
        stages = topology.stages | {publisher: msgspec.structs.replace(topology.stages[publisher], file=str(file))}
        return msgspec.structs.replace(topology, stages=stages)
    topology = _change(topology, Ingress, "source", "--input", **ONE_SOURCE, file=str(file))
    links = {name: msgspec.structs.replace(link, policy="block") for name, link in topology.links.items()}
    return msgspec.structs.replace(topology, links=links)


def _with_output(topology: Topology, file: Path) -> Topology:
    if file.is_dir():
        raise TopologyFileError(f"--output {file}: is a directory; give a file name in it")
    try:
        container_of(file)
        file.parent.mkdir(parents=True, exist_ok=True)
    except ValueError as error:
        raise TopologyFileError(f"--output {file}: {error}") from error
    except OSError as error:
        raise TopologyFileError(f"--output {file}: cannot make the folder {file.parent}: {error.strerror}") from error
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise TopologyFileError(f"--output {file}: cannot be written; its permissions do not allow it to this user")
    return _change(topology, Egress, "sink", "--output", file=str(file))


def _resumed(topology: Topology) -> Topology:
    """Go on behind the last picture that is in the output. An output of which nothing is there is begun."""
    _check_reads_file(topology, "--resume")
    path = _output_of(topology)
    if path is None:
        raise TopologyFileError("--resume: egress writes no file; give --output FILE too")
    growing = growing_file(path)
    if not growing.exists():
        if path.exists():
            raise TopologyFileError(f"--resume: {path} is finished; to process it anew, leave --resume out")
        return topology
    try:
        tail = read_tail(growing)
    except OSError as error:
        raise TopologyFileError(f"--resume: cannot read {growing}: {error.strerror}") from error
    if tail.video_pts is None:
        return topology
    source = _source(topology)
    start = (tail.video_pts + 1 - FIRST_PTS) / CLOCK_HZ
    if start < source.start:
        raise TopologyFileError(f"--resume: {growing} ends before --start, {source.start:g} s: it is of another run")
    duration = None if source.duration is None else max(1 / CLOCK_HZ, source.start + source.duration - start)
    topology = _change(topology, Ingress, "source", "--resume", start=start, duration=duration)
    return _change(topology, Egress, "sink", "--resume", resume=True)


def _change(topology: Topology, kind: type[Ingress | Egress], section: str, option: str, **values: object) -> Topology:
    """With other values in a section of the stage of this kind."""
    name = topology.stage_of(kind)
    assert name is not None
    raw = msgspec.to_builtins(topology.stages[name])
    raw[section].update(values)
    try:
        changed = msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise TopologyFileError(f"{option}: {str(error).partition(' - at ')[0]}") from error
    return msgspec.structs.replace(topology, stages=topology.stages | {name: changed})


def _check_reads_file(topology: Topology, option: str) -> None:
    if topology.stage_of(Publisher) is not None:
        raise TopologyFileError(f"{option}: {HAS_PUBLISHER}")
    if topology.excerpt is None:
        raise TopologyFileError(f"{option}: {NO_FILE}")


def _source(topology: Topology) -> Source:
    return next(
        stage.source for stage in topology.stages.values() if isinstance(stage, Ingress) and stage.source is not None
    )


def _output_of(topology: Topology) -> Path | None:
    sinks = (stage.sink for stage in topology.stages.values() if isinstance(stage, Egress))
    file = next((sink.file for sink in sinks if sink is not None), None)
    return None if file is None else Path(file)
