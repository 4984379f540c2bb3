"""Everything that outlives a stage: the links' memory, the counters, the listening sockets, and who is joined to whom.

The launcher makes it once from a topology, tells each worker its part, and reclaims in it what a dead stage held.
"""

import functools
import os
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec

from pipeline.frame_memory import FrameMemory
from pipeline.lane import STREAM, Lane, lane_links, lane_suffix
from pipeline.link import FrameLink
from pipeline.listeners import Listeners
from pipeline.memory.slab import create_slab
from pipeline.memory.slot_table import Outcome
from pipeline.memory.stage_stats import STATS_BYTES, StageStats
from pipeline.recording.beginning import begin_where_recorded
from pipeline.recording.target import Target
from pipeline.replicas import replicas_of
from pipeline.run_dir import CONTROL, RunDir
from pipeline.status import FrameCount, LinkStatus, StreamSpec, Traces
from pipeline.topology import (
    OF_ONE_STREAM,
    AnyStage,
    Decode,
    Egress,
    Inference,
    Topology,
)
from pipeline.topology_changes import changed_stages, link_format
from pipeline.topology_logs import Level
from pipeline.topology_sections import Frame
from pipeline.traces import TraceRings

RECORDING = "recording"
"""The service that records from the start on."""

KEPT_NAMES = 64
"""Streams of which frames may still be in the rings of traced frames."""


class Wiring:
    def __init__(self, topology: Topology, run_dir: RunDir) -> None:
        """Raises PortInUse, naming the port and its key, and OSError when memory or descriptors run out."""
        self.topology = topology
        self._streams_begun = 0
        self._run_dir = run_dir
        self._fds: list[int] = []
        self.listeners = Listeners(topology)
        self.frame_memory = FrameMemory(topology)
        self.replicas = {replica.stage: replica for replica in replicas_of(topology)}
        """Of inference, by their stages."""
        served_by = {lane: replica.stage for replica in self.replicas.values() for lane in replica.lanes}
        self.lanes = [
            Lane(number, served_by[number], topology, run_dir, self._slab, self.frame_memory.handles)
            for number in range(topology.streams.max)
        ]
        """Each of the streams that can run at once has one."""
        self.lane_of = {stage: lane for lane in self.lanes for stage in lane.stages}
        """By the stages that are one stream's."""
        self.stats_fds = {
            name: [self._slab(f"{name}-stats", STATS_BYTES) for _ in range(self._seats(name))]
            for name in self.stage_names()
        }
        self.stats = {name: [StageStats(fd) for fd in fds] for name, fds in self.stats_fds.items()}
        self._stream_names: dict[int, str] = {} if topology.streams.on_request else {0: STREAM}  # by epoch
        self.trace_rings = self._make_trace_rings()
        self.target = Target(uuid.uuid4().hex) if topology.recording is not None else Target()
        """What is being recorded."""
        if self.topology.fed_again is not None:
            begin_where_recorded(self.topology.fed_again, self.lanes[0].raw.boot, self.lanes[0].cursor)

    def adopt(self, topology: Topology) -> list[str]:
        """Go by `topology` from now on. Returns the stages whose part has changed, and which must be started again.

        Raises NeedsNewStart for a change that what outlives the stages does not allow; then nothing has changed.
        """
        changed = changed_stages(self.topology, topology)
        self.topology = topology
        return [stage for stage in self.stage_names() if self.file_name(stage) in changed]

    def change_params(self, stage: str, params: dict[str, Any]) -> None:
        """From now on tell the processes of inference these parameters, whichever replica `stage` is."""
        spec = self.file_spec(stage)
        assert isinstance(spec, Inference)
        processor = msgspec.structs.replace(spec.processor, params=params)
        self._put(stage, msgspec.structs.replace(spec, processor=processor))

    def frame_after(self, stage: str, params: dict[str, Any]) -> Frame:
        """What the `frame` of this decode stage is with these parameters, of width, height and fit. Raises ValueError,
        for the user, for what is no parameter, no size, or larger than the links' slots."""
        unknown = set(params) - {"width", "height", "fit"}
        if unknown:
            raise ValueError(f"{', '.join(sorted(unknown))}: not known here; allowed: width, height, fit")
        try:
            frame = msgspec.convert(msgspec.to_builtins(self.frame(stage)) | params, Frame)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
        for name in lane_links(self.topology, 0).values():
            largest = link_format(self.topology, name)
            if not largest.holds(frame.width, frame.height):
                raise ValueError(
                    f"{frame.width}x{frame.height} does not fit in the slots of links.{name}, made for "
                    f"{largest.width}x{largest.height}; allowed: as many pixels, or a larger max_frame at the start"
                )
        return frame

    def change_frame(self, stage: str, frame: Frame) -> None:
        """From now on tell the processes this; with streams on request, those of the stream that runs there."""
        lane = self.lane_of[stage]
        if lane.stream is not None:
            lane.change_frame(frame)
        else:
            self.topology = msgspec.structs.replace(self.topology, frame=frame)

    def change_log_level(self, stage: str, level: Level) -> None:
        """From now on tell the processes of this stage to log what is at least of this level."""
        logs = self.topology.logs
        logs = msgspec.structs.replace(logs, stages=logs.stages | {stage: level})
        self.topology = msgspec.structs.replace(self.topology, logs=logs)

    def params(self, stage: str) -> dict[str, Any]:
        """What processes of this inference stage are told."""
        spec = self.file_spec(stage)
        assert isinstance(spec, Inference)
        return spec.processor.params

    def open_stream(self, lane: Lane, stream: StreamSpec) -> None:
        """Begin this stream, the next by number, see Lane.open_stream."""
        epoch = self._streams_begun
        self._streams_begun += 1
        lane.open_stream(stream, epoch, self.topology)
        self._stream_names[epoch] = stream.stream
        self._stream_names.pop(epoch - KEPT_NAMES, None)
        for name in lane.stages:
            for stats in self.stats[name]:
                stats.begin_stream()

    def lanes_of(self, stage: str) -> list[Lane]:
        """The lane that the stage belongs to, or those that it serves as a replica of inference; else none."""
        if stage in self.replicas:
            return [self.lanes[number] for number in self.replicas[stage].lanes]
        return [self.lane_of[stage]] if stage in self.lane_of else []

    def file_name(self, stage: str) -> str:
        """What the stage is called in the topology's file."""
        if stage in self.replicas:
            return self._name_of_inference
        lane = self.lane_of.get(stage)
        return stage.removesuffix(lane_suffix(lane.number, self.topology)) if lane is not None else stage

    def section(self, stage: str) -> str:
        """Where the file says what the stage is to do."""
        return f"stages.{self.file_name(stage)}"

    @property
    def _name_of_inference(self) -> str:
        name = self.topology.stage_of(Inference)
        assert name is not None
        return name

    def keep_stage(self, stage: str, topology: Topology) -> None:
        """Go on with what `topology` says of this stage."""
        self._put(stage, topology.stages[self.file_name(stage)])

    def _put(self, stage: str, spec: AnyStage) -> None:
        stages = self.topology.stages | {self.file_name(stage): spec}
        self.topology = msgspec.structs.replace(self.topology, stages=stages)

    def stage_names(self) -> list[str]:
        """Services first, then the stages in the file's order."""
        topology = self.topology
        others = {"otel": topology.tracing.otel, "recording": topology.recording}
        wanted = [name for name, section in others.items() if section is not None]
        return [*self.listeners.services, *wanted, *self._all_stages()]

    def _all_stages(self) -> Iterator[str]:
        """Those of each lane together, where the file has the first of them; all of inference where the file has it."""
        done = False
        for name, spec in self.topology.stages.items():
            if isinstance(spec, Inference):
                yield from self.replicas
            elif not isinstance(spec, OF_ONE_STREAM) or len(self.lanes) == 1:
                yield name
            elif not done:
                done = True
                for lane in self.lanes:
                    yield from lane.stages

    @property
    def control_endpoint(self) -> str:
        return self._run_dir.endpoint(CONTROL)

    @property
    def tape_endpoint(self) -> str:
        """Where whoever records listens."""
        return self._run_dir.endpoint("tape")

    def recording_by(self, stage: str) -> str:
        """The recording to which the stage tells what it sees; empty: none. Inference tells of all its lanes: it has
        little to tell, and whoever records takes what is the stream's."""
        lane = self.lane_of.get(stage)
        recorded = lane is None or self.target.is_of(lane.begin.stream, lane.epoch)
        return self.target.recording if recorded else ""

    @property
    def relay_url(self) -> str | None:
        """Base URL of the embedded relay with its real port; channels are one name below it."""
        return self.listeners.url("relay")

    @property
    def api_url(self) -> str | None:
        return self.listeners.url("api")

    def reclaim(self, stage: str, *, to_blame: bool = True) -> dict[str, int]:
        """Take back the slots of a stage whose process is dead and waited for. Returns what was done, for the log.
        `to_blame`: the frame in hand may be what it died of; not so if it was ended on purpose.

        The output first: it says up to where the stage's input had been passed on. The bells last: those that the dead
        process did not come to ring, and a look at the table for its neighbours.
        """
        done: dict[str, int] = {}
        for incoming, outgoing in self._ends(stage):
            if outgoing is not None:
                outcome = Outcome.CRASH if incoming is None else Outcome.RETRY
                _count(done, filling=outgoing.table.reclaim_producer(outcome))
            if incoming is not None:
                passed_on = outgoing.table.published if outgoing is not None else 0
                retried, dropped = incoming.table.reclaim_consumer(passed_on, to_blame=to_blame)
                _count(done, retried=retried, dropped=dropped)
            for link in (outgoing, incoming):
                if link is not None:
                    link.wake()
        return done

    def newest_only_links(self, stage: str) -> list[FrameLink]:
        """The links from which `stage` takes the newest frame only."""
        incoming = (link for link, _ in self._ends(stage))
        return [link for link in incoming if link is not None and link.boot.policy == "latest"]

    def end_output(self, stage: str, lane: Lane | None = None) -> None:
        """Say in the place of a stage that will not come back that nothing more follows: on this lane, or on all."""
        for _, outgoing in self._ends(stage):
            of_others = lane is not None and outgoing not in lane.links
            if outgoing is not None and not of_others and not outgoing.table.ended:
                outgoing.table.end()
                outgoing.wake()

    def _ends(self, stage: str) -> list[tuple[FrameLink | None, FrameLink | None]]:
        """The frame links before and behind the stage; inference has a pair on every lane."""
        lane = self.lane_of.get(stage)
        if stage in self.replicas:
            return [(each.raw, each.styled) for each in self.lanes_of(stage)]
        if lane is None:
            return []
        return [(lane.styled if stage == lane.egress else None, lane.raw if stage == lane.decode else None)]

    def abandon(self) -> int:
        """Free every slot still held, counted as `shutdown`. All workers must be gone."""
        return sum(lane.abandon() for lane in self.lanes)

    @property
    def links(self) -> dict[str, FrameLink]:
        """Every frame link by its name."""
        return {link.boot.name: link for lane in self.lanes for link in lane.links}

    def link_status(self) -> list[LinkStatus]:
        """Every frame link's slots and counts."""
        return [status for lane in self.lanes for status in lane.link_status()]

    def traces(self) -> Traces:
        """The way of frames that were traced."""
        return self.trace_rings.read(self._stream_names)

    def frame_count(self) -> FrameCount:
        """The equation over all lanes; see Lane.frame_count."""
        return functools.reduce(FrameCount.plus, (lane.frame_count() for lane in self.lanes))

    def pictures_added(self) -> int:
        """Those that the processor made besides the frames' own."""
        return sum(lane.pictures_added() for lane in self.lanes)

    def close(self) -> None:
        """Give back memory, descriptors and sockets. The workers must be gone."""
        self.trace_rings.close()
        for lane in self.lanes:
            lane.close()
        for seats in self.stats.values():
            for stats in seats:
                stats.close()
        self.listeners.close()
        for fd in self._fds:
            os.close(fd)
        self.frame_memory.close()

    @property
    def is_live(self) -> bool:
        """Whether some link drops frames rather than wait: then the output follows the clock."""
        return any(link.boot.policy == "latest" for link in self.links.values())

    @property
    def audio_is_processed(self) -> bool:
        return any(isinstance(spec, Inference) and spec.processor.audio for spec in self.topology.stages.values())

    def _seats(self, stage: str) -> int:
        """How many processes of the stage can live at a time."""
        spec = self.file_spec(stage)
        if not isinstance(spec, Inference):
            return 1
        renewed = 1  # The one that is loaded beside the one at work.
        return 1 + spec.spares + renewed + spec.has_stand_in

    def file_spec(self, stage: str) -> AnyStage | None:
        """What the topology's file says of the stage."""
        return self.topology.stages.get(self.file_name(stage))

    def spec(self, stage: str) -> AnyStage | None:
        """What the topology says of the stage, with the source or the sink of the stream that runs."""
        spec, lane = self.file_spec(stage), self.lane_of.get(stage)
        return lane.spec(spec) if lane is not None and spec is not None else spec

    def frame(self, stage: str) -> Frame:
        """The size that a stream's own stages work in; inference warms up for the topology's."""
        lane = self.lane_of.get(stage)
        return lane.frame(self.topology) if lane is not None else self.topology.frame

    def _make_trace_rings(self) -> TraceRings:
        """For whoever ends a frame: the stages behind ingress, and the launcher in the place of one that is dead."""
        specs = {name: self.file_spec(name) for name in self.stage_names()}
        ends = [name for name, spec in specs.items() if isinstance(spec, Decode | Inference | Egress)]
        seats = {name: self._seats(name) for name in ends}
        rings = TraceRings(self.topology.name, self.topology.tracing.every, seats)
        for link in self.links.values():
            link.table.on_end = rings.own.end
        return rings

    def _slab(self, name: str, nbytes: int) -> int:
        fd = create_slab(f"{self.topology.name}-{name}", nbytes)
        self._fds.append(fd)
        return fd


def _count(done: dict[str, int], **more: int) -> None:
    for what, count in more.items():
        done[what] = done.get(what, 0) + count
