"""A lane: what one stream runs through, from ingress to egress. It has stages of its own and the memory that joins them
to each other and to inference, which serves several lanes; and it knows which stream is on it.

Who is started and told is the launcher's; see `wiring` for what is not of one stream.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pipeline.boot import EncodedBoot, LaneBoot, Pause
from pipeline.encoded_link import CURSOR_BYTES, Cursor
from pipeline.link import FrameLink
from pipeline.media.timeline_notes import TimelineNote, read_notes
from pipeline.memory.cuda_handle import CudaSlabHandle
from pipeline.memory.slot_table import FILLING, IN_USE, Outcome
from pipeline.messages import SetPause, StreamBegin
from pipeline.run_dir import RunDir
from pipeline.status import FrameCount, LinkStatus, StreamSpec
from pipeline.topology import OF_ONE_STREAM, AnyStage, Decode, Egress, Inference, Ingress, Topology
from pipeline.topology_changes import link_format
from pipeline.topology_sections import Frame, Sink, Source

NO_STREAM = -1
"""Number of the stream before the first on request."""

STREAM = "main"
"""The one stream of a topology that names its source and its sink."""


def lane_suffix(number: int, topology: Topology) -> str:
    """What is put behind the names of a lane's stages and links, counted from 1; nothing where there is one lane."""
    return f".{number + 1}" if topology.streams.max > 1 else ""


class Lane:
    def __init__(
        self,
        number: int,
        inference: str,
        topology: Topology,
        run_dir: RunDir,
        make_slab: Callable[[str, int], int],
        handles: Mapping[str, CudaSlabHandle],
    ) -> None:
        """`inference` is the stage that serves it. `make_slab` makes memory of a name and a size, which stays its
        maker's; `handles` are the slabs of pixels on a GPU by the names of the links. Raises OSError when memory or
        descriptors run out."""
        self.number = number
        self.inference = inference
        suffix = lane_suffix(number, topology)
        self.ingress, self.decode, self.egress = (f"{_name_of(kind, topology)}{suffix}" for kind in OF_ONE_STREAM)
        """The names of its own stages."""
        self.epoch = NO_STREAM if topology.streams.on_request else 0
        """Number of the stream that runs, or ran last."""
        self.stream: StreamSpec | None = None
        """As somebody asked for it."""
        self.pause: Pause | None = None
        """Whether inference leaves the processor alone, and what is shown meanwhile."""
        self.params: dict[str, Any] | None = None
        """The processor's, for this stream alone."""
        self._fit = topology.frame.fit  # that of the stream's frames
        encoded, raw, styled = (_output_of(kind, topology) for kind in (Ingress, Decode, Inference))
        self.encoded = EncodedBoot(
            f"{encoded}{suffix}",
            make_slab(f"{encoded}{suffix}", CURSOR_BYTES),
            run_dir.endpoint(f"{encoded}{suffix}"),
            topology.links[encoded].buffer_bytes,
        )
        self.cursor = Cursor(self.encoded.fd)
        self.raw, self.styled = (_make_link(name, suffix, topology, handles) for name in (raw, styled))
        self.audio_endpoint = run_dir.endpoint(f"audio{suffix}")
        self.samples_endpoint = run_dir.endpoint(f"samples{suffix}")
        if topology.streams.on_request:
            for link in self.links:
                link.table.end()  # So it is between two streams, and before the first.

    @property
    def stages(self) -> tuple[str, str, str]:
        return self.ingress, self.decode, self.egress

    @property
    def links(self) -> tuple[FrameLink, FrameLink]:
        return self.raw, self.styled

    def boot(self, *, sound: bool) -> LaneBoot:
        """What inference is told; `sound`: the processor takes it."""
        begin = self.begin
        return LaneBoot(
            number=self.number,
            stream=begin.stream,
            epoch=begin.epoch,
            input=self.raw.boot,
            output=self.styled.boot,
            audio_endpoint=self.audio_endpoint,
            samples_endpoint=self.samples_endpoint if sound else None,
            params=begin.params,
            pause=self.pause,
            weight=begin.weight,
        )

    @property
    def begin(self) -> StreamBegin:
        """What inference is told of the stream that runs, or ran last."""
        stream = self.stream
        if stream is None:
            return StreamBegin(self.number, "" if self.epoch == NO_STREAM else STREAM, self.epoch)
        return StreamBegin(self.number, stream.stream, self.epoch, self.params, stream.weight)

    @property
    def set_pause(self) -> SetPause:
        return SetPause(self.number, self.pause)

    def open_stream(self, stream: StreamSpec, epoch: int, topology: Topology) -> None:
        """Begin this stream. Its ingress, decode and egress are not there yet; the processes of inference have nothing
        of this lane in hand, and touch nothing before they are told."""
        self.epoch = epoch
        self.stream, self._fit = stream, topology.frame.fit
        self.cursor.clear()
        for link in self.links:
            link.table.reopen()

    def spec(self, spec: AnyStage) -> AnyStage:
        """What the topology says of a stage of this lane, with the source or the sink of the stream that runs."""
        stream = self.stream
        if stream is not None and isinstance(spec, Ingress):
            return msgspec.structs.replace(spec, source=Source(trickle=stream.subscribe_url))
        if stream is not None and isinstance(spec, Egress):
            return msgspec.structs.replace(spec, sink=Sink(trickle=stream.publish_url, text=stream.data_url or None))
        return spec

    def frame(self, topology: Topology) -> Frame:
        """The size of the frames of the stream that runs, and of the next one until it says otherwise."""
        frame, stream = topology.frame, self.stream
        if stream is None:
            return frame
        width, height = stream.width or frame.width, stream.height or frame.height
        return msgspec.structs.replace(frame, width=width, height=height, fit=self._fit)

    def change_frame(self, frame: Frame) -> None:
        """From now on tell the stages this."""
        assert self.stream is not None
        self.stream = msgspec.structs.replace(self.stream, width=frame.width, height=frame.height)
        self._fit = frame.fit

    def link_status(self) -> list[LinkStatus]:
        return [self.raw.status(self.decode, self.inference), self.styled.status(self.inference, self.egress)]

    def frame_count(self) -> FrameCount:
        """The equation over the chain decode -> inference -> egress.

        A frame that inference has in hand is in a slot of both links; it counts once.
        """
        raw, styled = self.raw.table, self.styled.table
        twice = sum(slot.state == FILLING and slot.verdict is not Outcome.ADDED for slot in styled.slots)
        twice += sum(slot.state == IN_USE and slot.seq < styled.published for slot in raw.slots)
        dropped = {
            outcome.name.lower(): count
            for outcome in Outcome
            if outcome.is_drop and (count := raw.count(outcome) + styled.count(outcome))
        }
        return FrameCount(
            decoded=raw.begun() + raw.dropped_before_slot(),
            delivered=styled.count(Outcome.DELIVERED),
            dropped=dropped,
            in_flight=raw.in_flight() + styled.in_flight() - styled.added_in_flight() - twice,
        )

    def timeline_notes(self) -> list[TimelineNote]:
        """Decode's timeline before each of its last segments."""
        return read_notes(self.raw.table)

    def pictures_added(self) -> int:
        """Those that the processor made besides the frames' own."""
        return self.styled.table.count(Outcome.ADDED)

    def abandon(self) -> int:
        """Free every slot still held, counted as `shutdown`. All its workers must be gone, or hold none and wait."""
        return sum(link.table.abandon() for link in self.links)

    def close(self) -> None:
        self.cursor.close()
        for link in self.links:
            link.close()


def lane_links(topology: Topology, number: int) -> dict[str, str]:
    """The frame links of a lane, and what each is called in the file."""
    names, suffix = [_output_of(kind, topology) for kind in (Decode, Inference)], lane_suffix(number, topology)
    return {f"{name}{suffix}": name for name in names}


def _name_of(kind: type[AnyStage], topology: Topology) -> str:
    return next(name for name, spec in topology.stages.items() if isinstance(spec, kind))


def _output_of(kind: type[Ingress | Decode | Inference], topology: Topology) -> str:
    return next(spec.output for spec in topology.stages.values() if isinstance(spec, kind))


def _make_link(name: str, suffix: str, topology: Topology, handles: Mapping[str, CudaSlabHandle]) -> FrameLink:
    link, own = topology.links[name], f"{name}{suffix}"
    return FrameLink(own, link.slots, link.policy, link_format(topology, name), handles.get(own))
