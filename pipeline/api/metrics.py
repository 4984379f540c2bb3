"""Which Prometheus metrics there are, and what each one reads of a Status.

Labels are names from the topology, states, reasons and the streams under way, so the number of series is bounded. What
each metric means to an operator is in docs/metrics.md.
"""

import platform
from collections.abc import Callable, Iterator

from pipeline.api.answers import SPINE
from pipeline.api.drops import DROPS, drops_by_stage
from pipeline.api.exposition import Described, Sample, Scrape
from pipeline.api.hardware import GpuStats
from pipeline.histogram import Histogram
from pipeline.memory.slot_table import STATE_NAMES
from pipeline.status import LinkStatus, StageStatus, Status, StreamStatus

STAGE_STATES = ("STARTING", "READY", "BACKOFF", "FINISHED", "FAILED", "IDLE")
STREAM_STATES = ("STARTING", "ONLINE", "STOPPING")
ON_FRAMES = SPINE[1:]
COUNTS_UNITS = (*SPINE, "publisher", "recorder")


def _one(read: Callable[[Status], float | None]) -> Callable[[Scrape], Iterator[Sample]]:
    """One value of the whole pipeline; none where there is nothing to say."""

    def samples(scrape: Scrape) -> Iterator[Sample]:
        value = read(scrape.status)
        if value is not None:
            yield Sample((), value)

    return samples


def _stages(
    read: Callable[[StageStatus], float | Histogram | None], *workers: str
) -> Callable[[Scrape], Iterator[Sample]]:
    """One value a stage, of those that run these workers; by default of all."""

    def samples(scrape: Scrape) -> Iterator[Sample]:
        for stage in scrape.status.stages:
            if (not workers or stage.worker in workers) and (value := read(stage)) is not None:
                yield Sample((stage.stage,), value)

    return samples


def _streams(read: Callable[[StreamStatus], float | Histogram | None]) -> Callable[[Scrape], Iterator[Sample]]:
    """One value a stream on request that is under way. What is over has no series of its own any more."""

    def samples(scrape: Scrape) -> Iterator[Sample]:
        for stream in _under_way(scrape.status):
            value = read(stream)
            if value is not None:
                yield Sample((stream.spec.stream,), value)

    return samples


def _gpus(read: Callable[[GpuStats], float | None]) -> Callable[[Scrape], Iterator[Sample]]:
    """One value a graphics card, where the driver tells it."""

    def samples(scrape: Scrape) -> Iterator[Sample]:
        for index, gpu in scrape.gpus.items():
            value = read(gpu)
            if value is not None:
                yield Sample((str(index),), value)

    return samples


def _under_way(status: Status) -> list[StreamStatus]:
    return [stream for stream in status.streams if not stream.ended]


def _build(scrape: Scrape) -> Iterator[Sample]:
    yield Sample((scrape.version, platform.python_version(), scrape.status.pipeline), 1)


def _stage_states(scrape: Scrape) -> Iterator[Sample]:
    for stage in scrape.status.stages:
        for state in STAGE_STATES:
            yield Sample((stage.stage, state), stage.state == state)


def _stage_info(scrape: Scrape) -> Iterator[Sample]:
    for stage in scrape.status.stages:
        yield Sample((stage.stage, stage.worker), 1)


def _dropped(scrape: Scrape) -> Iterator[Sample]:
    for (stage, reason), count in drops_by_stage(scrape.status).items():
        yield Sample((stage, reason), count)


def _link_slots(scrape: Scrape) -> Iterator[Sample]:
    for link in scrape.status.links:
        for state in STATE_NAMES:
            yield Sample((link.link, state), sum(slot.state == state for slot in link.slots))


def _oldest_ready(link: LinkStatus) -> float:
    return max((slot.age_ms for slot in link.slots if slot.state == "READY"), default=0.0) / 1000


def _stream_states(scrape: Scrape) -> Iterator[Sample]:
    for stream in _under_way(scrape.status):
        for state in STREAM_STATES:
            yield Sample((stream.spec.stream, state), stream.state == state)


def _stream_drops(scrape: Scrape) -> Iterator[Sample]:
    for stream in _under_way(scrape.status):
        for reason in DROPS:
            yield Sample((stream.spec.stream, reason), stream.frames.dropped.get(reason, 0))


def _gpu_info(scrape: Scrape) -> Iterator[Sample]:
    for index, gpu in scrape.gpus.items():
        yield Sample((str(index), gpu.id, gpu.name), 1)


METRICS: tuple[Described, ...] = (
    Described("livepipe_build_info", "gauge", ("version", "python", "pipeline"), "What runs here; always 1", _build),
    Described("livepipe_uptime_seconds", "gauge", (), "Since the launcher started", _one(lambda s: s.uptime_s)),
    Described("livepipe_healthy", "gauge", (), "1: frames can flow, or will soon", _one(lambda s: s.healthy)),
    Described("livepipe_paused", "gauge", (), "1: frames are not processed, on request", _one(lambda s: s.paused)),
    # Frames, over the whole pipeline and all its streams.
    Described("livepipe_frames_decoded_total", "counter", (), "With an identity", _one(lambda s: s.frames.decoded)),
    Described("livepipe_frames_delivered_total", "counter", (), "Encoded, sent", _one(lambda s: s.frames.delivered)),
    Described("livepipe_frames_dropped_total", "counter", ("stage", "reason"), "By whom and why", _dropped),
    Described("livepipe_frames_in_flight", "gauge", (), "Between the two", _one(lambda s: s.frames.in_flight)),
    Described("livepipe_frames_added_total", "counter", (), "Made besides the frames' own", _one(lambda s: s.added)),
    Described(
        "livepipe_end_to_end_latency_seconds",
        "histogram",
        (),
        "From an access unit's last byte in ingress to its frame's encoded bytes leaving egress",
        lambda scrape: [Sample((), scrape.status.end_to_end)] if scrape.status.end_to_end is not None else [],
    ),
    # Stages.
    Described("livepipe_stage_info", "gauge", ("stage", "worker"), "What each stage runs; always 1", _stage_info),
    Described("livepipe_stage_up", "gauge", ("stage",), "1: READY", _stages(lambda s: s.state == "READY")),
    Described("livepipe_stage_state", "gauge", ("stage", "state"), "1 for the state that it is in", _stage_states),
    Described(
        "livepipe_stage_spares", "gauge", ("stage",), "Loaded, waiting", _stages(lambda s: s.spares, "inference")
    ),
    Described(
        "livepipe_stage_passing_through",
        "gauge",
        ("stage",),
        "1: a stand-in does its work",
        _stages(lambda s: s.passing_through, "inference"),
    ),
    Described("livepipe_stage_restarts_total", "counter", ("stage",), "Started again", _stages(lambda s: s.restarts)),
    Described(
        "livepipe_stage_recovery_seconds",
        "histogram",
        ("stage",),
        "From a death until the stage was at work again",
        _stages(lambda s: s.recovery),
    ),
    Described(
        "livepipe_stage_output_gap_seconds",
        "histogram",
        ("stage",),
        "From the last unit before a death to the first after it",
        _stages(lambda s: s.output_gap, *SPINE),
    ),
    Described(
        "livepipe_stage_units_in_total",
        "counter",
        ("stage",),
        "Frames, or segments, taken in",
        _stages(lambda s: s.units_in, *COUNTS_UNITS),
    ),
    Described(
        "livepipe_stage_units_out_total",
        "counter",
        ("stage",),
        "Frames, or segments, handed on",
        _stages(lambda s: s.units_out, *SPINE, "publisher"),
    ),
    Described(
        "livepipe_stage_received_bytes_total",
        "counter",
        ("stage",),
        "Encoded bytes taken in",
        _stages(lambda s: s.bytes_in, "ingress", "decode"),
    ),
    Described(
        "livepipe_stage_sent_bytes_total",
        "counter",
        ("stage",),
        "Encoded bytes handed on, sound and container included",
        _stages(lambda s: s.bytes_out, "egress", "publisher"),
    ),
    Described(
        "livepipe_stage_latency_seconds",
        "histogram",
        ("stage",),
        "From a frame's arrival at the stage until it is handed on",
        _stages(lambda s: s.latency, *ON_FRAMES),
    ),
    Described(
        "livepipe_stage_busy_seconds_total",
        "counter",
        ("stage",),
        "Spent on work, waiting left out",
        _stages(lambda s: s.busy_s, *ON_FRAMES),
    ),
    Described(
        "livepipe_stage_skipped_access_units_total",
        "counter",
        ("stage",),
        "Damaged, or before the first key picture",
        _stages(lambda s: s.skipped, "decode"),
    ),
    Described(
        "livepipe_stage_capped_pictures_total",
        "counter",
        ("stage",),
        "More a second than frame.max_fps",
        _stages(lambda s: s.capped, "decode"),
    ),
    Described(
        "livepipe_stage_replayed_pictures_total",
        "counter",
        ("stage",),
        "Decoded again after a death and not handed on twice",
        _stages(lambda s: s.replayed, "decode"),
    ),
    Described(
        "livepipe_stage_repeated_pictures_total",
        "counter",
        ("stage",),
        "Shown again because no new one came",
        _stages(lambda s: s.repeated, "egress"),
    ),
    Described(
        "livepipe_stage_dropped_audio_units_total",
        "counter",
        ("stage",),
        "Sound that was not handed on",
        _stages(lambda s: s.audio_dropped, *ON_FRAMES),
    ),
    Described(
        "livepipe_stage_lost_segments_total",
        "counter",
        ("stage",),
        "Not taken whole by the server",
        _stages(lambda s: s.segments_lost, "egress", "publisher"),
    ),
    Described("livepipe_stage_cpu_seconds_total", "counter", ("stage",), "CPU time used", _stages(lambda s: s.cpu_s)),
    Described(
        "livepipe_stage_resident_memory_bytes", "gauge", ("stage",), "Of its processes", _stages(lambda s: s.rss_bytes)
    ),
    Described("livepipe_stage_threads", "gauge", ("stage",), "Of its processes", _stages(lambda s: s.threads)),
    Described("livepipe_stage_open_fds", "gauge", ("stage",), "File descriptors", _stages(lambda s: s.open_fds)),
    # The encoder.
    Described(
        "livepipe_encoder_wanted_bytes_per_second",
        "gauge",
        ("stage",),
        "The topology's bitrate / 8; none for constant quality",
        _stages(lambda s: (s.encoding.wanted / 8 or None) if s.encoding else None, "egress"),
    ),
    Described(
        "livepipe_encoder_target_bytes_per_second",
        "gauge",
        ("stage",),
        "What it aims at just now; less while the publisher cannot keep up",
        _stages(lambda s: (s.encoding.target / 8 or None) if s.encoding else None, "egress"),
    ),
    Described(
        "livepipe_encoder_output_bytes_total",
        "counter",
        ("stage",),
        "Encoded video, without sound and container",
        _stages(lambda s: s.encoding.video_bytes if s.encoding else None, "egress"),
    ),
    # Links.
    Described("livepipe_link_slots", "gauge", ("link", "state"), "Slots by state; READY is the queue", _link_slots),
    Described(
        "livepipe_link_oldest_ready_seconds",
        "gauge",
        ("link",),
        "How long the oldest READY frame has waited",
        lambda scrape: [Sample((link.link,), _oldest_ready(link)) for link in scrape.status.links],
    ),
    # Streams on request.
    Described("livepipe_streams_running", "gauge", (), "Under way", _one(lambda status: len(_under_way(status)))),
    Described(
        "livepipe_streams_ended_total",
        "counter",
        ("state",),
        "Over, by their last state",
        lambda scrape: [Sample((state,), count) for state, count in scrape.status.streams_ended.items()],
    ),
    Described("livepipe_stream_state", "gauge", ("stream", "state"), "1 for the state that it is in", _stream_states),
    Described(
        "livepipe_stream_frames_decoded_total", "counter", ("stream",), "Its own", _streams(lambda s: s.frames.decoded)
    ),
    Described(
        "livepipe_stream_frames_delivered_total",
        "counter",
        ("stream",),
        "Its own",
        _streams(lambda s: s.frames.delivered),
    ),
    Described("livepipe_stream_frames_dropped_total", "counter", ("stream", "reason"), "By reason", _stream_drops),
    Described(
        "livepipe_stream_frames_in_flight", "gauge", ("stream",), "Its own", _streams(lambda s: s.frames.in_flight)
    ),
    Described(
        "livepipe_stream_end_to_end_latency_seconds",
        "histogram",
        ("stream",),
        "As livepipe_end_to_end_latency_seconds, of its frames",
        _streams(lambda s: s.end_to_end),
    ),
    Described(
        "livepipe_stream_first_input_seconds",
        "gauge",
        ("stream",),
        "From the request to its first decoded frame",
        _streams(lambda s: None if s.first_in_ms is None else s.first_in_ms / 1000),
    ),
    Described(
        "livepipe_stream_first_output_seconds",
        "gauge",
        ("stream",),
        "From the request to its first sent frame",
        _streams(lambda s: None if s.first_out_ms is None else s.first_out_ms / 1000),
    ),
    # The launcher.
    Described("livepipe_launcher_cpu_seconds_total", "counter", (), "CPU time used", _one(lambda s: s.launcher.cpu_s)),
    Described(
        "livepipe_launcher_resident_memory_bytes", "gauge", (), "Of itself", _one(lambda s: s.launcher.rss_bytes)
    ),
    Described("livepipe_launcher_threads", "gauge", (), "Of itself", _one(lambda s: s.launcher.threads)),
    Described("livepipe_launcher_open_fds", "gauge", (), "File descriptors", _one(lambda s: s.launcher.open_fds)),
    # Graphics cards.
    Described("livepipe_gpu_info", "gauge", ("gpu", "uuid", "name"), "Which card; always 1", _gpu_info),
    Described(
        "livepipe_gpu_utilization_ratio",
        "gauge",
        ("gpu",),
        "Share of late in which some kernel ran",
        _gpus(lambda gpu: None if gpu.utilization_compute is None else gpu.utilization_compute / 100),
    ),
    Described("livepipe_gpu_memory_bytes", "gauge", ("gpu",), "That it has", _gpus(lambda gpu: gpu.memory_total)),
    Described(
        "livepipe_gpu_memory_used_bytes",
        "gauge",
        ("gpu",),
        "By whoever",
        _gpus(lambda gpu: gpu.memory_total - gpu.memory_free),
    ),
    Described("livepipe_gpu_temperature_celsius", "gauge", ("gpu",), "Of the chip", _gpus(lambda gpu: gpu.temperature)),
    Described("livepipe_gpu_power_watts", "gauge", ("gpu",), "Drawn of late", _gpus(lambda gpu: gpu.power_watts)),
)
