"""The command line: run a topology, check one, draw one; look into one that runs, restart a stage of it."""

import argparse
import contextlib
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml
from rich.console import Console, RenderableType
from rich.live import Live

from pipeline import __version__
from pipeline.bench.options import add_options
from pipeline.control import ControlLine, LauncherSilent
from pipeline.display import Terminal, frame_text, slot_view, stage_table, top_view
from pipeline.file_run import FileRun, unfinished
from pipeline.launcher_log import LogFileError
from pipeline.listeners import PortInUse
from pipeline.log import LEVELS
from pipeline.media.file_kinds import CONTAINERS
from pipeline.recording.format import RecordingError, RecordingWriter
from pipeline.recording.recorder import RecorderRefused, StreamRecorder, new_recording
from pipeline.replay import ReplayError, replay
from pipeline.replay_report import TOLERANCE
from pipeline.run_dir import AlreadyRunning, NotRunning, RunDir, control_endpoint
from pipeline.shipped import find_topology, shipped_names
from pipeline.signal_notes import SignalNotes
from pipeline.status import Status
from pipeline.supervisor import Supervisor
from pipeline.topology import Egress, Ingress, Publisher, Recorder, Stage, Topology
from pipeline.topology_file import TopologyFileError, load_topology, parse_override, without_secrets
from pipeline.topology_sections import Sink, Source
from pipeline.trace_view import OFF, NewTraces, trace_view, waterfall
from pipeline.wiring import Wiring

COMMAND = "livepipe"
"""What the launcher is called where the package is installed."""

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
"""Ctrl-C before there was anything to drain."""

SUMMARY_WIDTH = 120
"""Columns of the summary where there is no terminal to ask."""

LOOK_SECONDS = 0.25
"""Between two looks at a running pipeline."""

ON_REQUEST = "whoever asks for a stream"
"""Outside of a topology that names no source and no sink."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code: 0 all went well, 1 a stage failed, 2 a mistake in what was asked."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (
        TopologyFileError,
        RecordingError,
        ReplayError,
        AlreadyRunning,
        NotRunning,
        PortInUse,
        LogFileError,
    ) as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        print(f"{error.filename or getattr(options, 'file', '')}: {error.strerror or error}", file=sys.stderr)
        return EXIT_USAGE
    except LauncherSilent as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=COMMAND if Path(sys.argv[0]).name == COMMAND else "launcher.py",
        description="Real-time generative video in supervised processes.",
    )
    parser.add_argument("--version", action="version", version=f"{COMMAND} {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a topology until its source ends or Ctrl-C")
    run.add_argument("--input", type=Path, metavar="FILE", help="this video file as the source, of any kind")
    run.add_argument("--output", type=Path, metavar="FILE", help=f"write this file: {', '.join(CONTAINERS)}")
    run.add_argument("--start", type=float, metavar="SECONDS", help="begin there in the input file")
    run.add_argument("--duration", type=float, metavar="SECONDS", help="process so much of it")
    run.add_argument("--resume", action="store_true", help="go on where an interrupted run left its output")
    run.add_argument("--record", type=Path, metavar="FILE", help="keep what it is fed and what comes of it, for replay")
    run.add_argument("--summary", type=Path, metavar="FILE", help="write the summary as JSON too")
    run.set_defaults(command=_run)
    check = commands.add_parser("check", help="print the resolved topology, or what is wrong with it")
    check.set_defaults(command=_check)
    graph = commands.add_parser("graph", help="print the topology as a Mermaid diagram")
    graph.set_defaults(command=_graph)
    top = commands.add_parser("top", help="show every process of a running pipeline")
    top.add_argument("--once", action="store_true", help="print the status once, as JSON")
    top.set_defaults(command=_top)
    inspect = commands.add_parser("inspect", help="show the slots of a running pipeline: states, ages, owners, drops")
    inspect.add_argument("--once", action="store_true", help="print them once, as JSON")
    inspect.set_defaults(command=_inspect)
    trace = commands.add_parser("trace", help="show the way of single frames through a running pipeline, hop by hop")
    how_long = trace.add_mutually_exclusive_group()
    how_long.add_argument("--once", action="store_true", help="the newest frames, once: what is done by default")
    how_long.add_argument("--follow", action="store_true", help="go on until Ctrl-C or the pipeline's end")
    trace.add_argument("--json", action="store_true", help="as JSON; with --follow, one line a frame")
    trace.set_defaults(command=_trace)
    record = commands.add_parser("record", help="keep what a running pipeline is fed and what comes of it, for replay")
    record.add_argument("--output", type=Path, metavar="FILE", required=True, help="a new file")
    record.add_argument("--stream", default="", help="of several that run; by default the only one, or the next")
    record.add_argument("--seconds", type=_positive, metavar="N", help="end after so many")
    record.add_argument(
        "--max-bytes", type=_positive, metavar="N", default=1 << 30, help="end once the file has so many"
    )
    record.set_defaults(command=_record)
    replay = commands.add_parser(
        "replay", help="run a recording through the pipeline again, and compare what comes out"
    )
    replay.add_argument("recording", type=Path, metavar="FILE")
    replay.add_argument(
        "--speed", choices=("1", "max"), default="max", help="its own time, or every frame at once (max)"
    )
    replay.add_argument("--topology", type=Path, metavar="FILE", help="in the place of the recorded one")
    replay.add_argument("--against", type=Path, metavar="FILE", help="compare with this recording instead")
    replay.add_argument("--output", type=Path, metavar="FILE", help="keep the replay as a recording")
    replay.add_argument("--video", type=Path, metavar="FILE", help="keep what it shows")
    replay.add_argument("--exact", action="store_true", help="every pixel must be the same")
    replay.add_argument("--tolerance", type=float, metavar="N", default=TOLERANCE, help="of 255, for a field's mean")
    replay.add_argument("--json", action="store_true", help="the report as JSON")
    replay.set_defaults(command=_replay)
    health = commands.add_parser("health", help="exit with 0 if a running pipeline is well, with 1 if it is not")
    health.set_defaults(command=_health)
    restart = commands.add_parser("restart", help="start a stage of a running pipeline again, with a fresh budget")
    restart.add_argument("stage", metavar="STAGE")
    restart.set_defaults(command=_restart)
    update = commands.add_parser(
        "update", help="change parameters of a running processor, or the size of decode's pictures"
    )
    update.add_argument("stage", metavar="STAGE")
    update.add_argument("params", metavar="PARAMS", help="YAML or JSON, such as '{levels: 3}', or @FILE")
    update.add_argument(
        "--renew",
        action="store_true",
        help="PARAMS are all parameters: a new process loads them beside the one at work, and takes over when ready",
    )
    update.set_defaults(command=_update)
    log_level = commands.add_parser("log-level", help="log more, or less, of a stage of a running pipeline")
    log_level.add_argument("stage", metavar="STAGE", help="one of its stages; relay, api, launcher")
    log_level.add_argument("level", metavar="LEVEL", type=str.upper, choices=LEVELS, help=", ".join(LEVELS))
    log_level.set_defaults(command=_log_level)
    bench = commands.add_parser("bench", help="measure what a topology holds: frame rate, streams, latency, recovery")
    add_options(bench)
    bench.set_defaults(command=_bench)
    for command in (top, inspect, trace, record, restart, update, log_level, health):
        command.add_argument("name", metavar="NAME", nargs="?", help="the topology's `name:`; not needed if one runs")
    for command in (run, check, graph, bench):
        command.add_argument(
            "file", type=Path, metavar="FILE", help=f"topology: a file, or one of {', '.join(shipped_names())}"
        )
    for command in (run, check, graph, bench, replay):
        command.add_argument(
            "--set", action="append", default=[], metavar="PATH=VALUE", help="replace one value, such as relay.port=0"
        )
    return parser


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: needed is a number above 0")
    return number


def _run(options: argparse.Namespace) -> int:
    asked = FileRun(
        input=options.input,
        output=options.output,
        start=options.start,
        duration=options.duration,
        resume=options.resume,
        record=options.record,
    )
    topology = asked.apply(_load(options))
    if options.record and options.record.exists():
        raise TopologyFileError(f"--record {options.record}: is there already; give another name, or remove it")
    if options.summary:
        options.summary.touch()  # A place that cannot be written to is better known now than after the run.
    console = Console(stderr=True)
    with RunDir(topology.name) as run_dir:
        wiring = Wiring(topology, run_dir)
        try:
            with Terminal(console, topology.logs, topology.name) as terminal:
                supervisor = Supervisor(wiring, terminal, lambda: asked.apply(_load(options)))
                supervisor.run()
            status = supervisor.status()
        finally:
            wiring.close()
    out = Console(width=None if sys.stdout.isatty() else SUMMARY_WIDTH)
    out.print(stage_table(status), frame_text(status), sep="\n")
    if options.summary:
        options.summary.write_bytes(msgspec.json.format(msgspec.json.encode(status)))
    for reason in supervisor.failed:
        print(reason, file=sys.stderr)
    _see_to_unfinished(topology, whole=not (supervisor.interrupted or supervisor.failed))
    if supervisor.refused:
        return EXIT_USAGE
    return EXIT_FAILED if supervisor.failed else EXIT_OK


def _see_to_unfinished(topology: Topology, *, whole: bool) -> None:
    """Clear away what the output file was made of, or say what it is good for."""
    part = unfinished(topology)
    if part is None:
        return
    if whole or not part.stat().st_size:
        part.unlink()
    else:
        print(f"{part}: what was done so far, playable; the same command with --resume goes on", file=sys.stderr)


def _check(options: argparse.Namespace) -> int:
    topology = _load(options)
    print(yaml.safe_dump(without_secrets(topology), sort_keys=False), end="")
    return EXIT_OK


def _graph(options: argparse.Namespace) -> int:
    topology = _load(options)
    print("flowchart LR")
    for name, stage in topology.stages.items():
        print(f'  {name}["{name}<br/>{stage.__struct_config__.tag}"]')
    for link, spec in topology.links.items():
        carries = f"{spec.slots} slots, {spec.policy}" if topology.carries_frames(link) else "encoded"
        print(f"  {topology.producer_of(link)} -- {link}: {carries} --> {topology.consumer_of(link)}")
    for name, stage in topology.stages.items():
        for outside, inwards in _outside(stage):
            shape = f'{re.sub(r"[^A-Za-z0-9]", "_", outside)}(["{outside}"])'
            print(f"  {shape} --> {name}" if inwards else f"  {name} --> {shape}")
    return EXIT_OK


def _top(options: argparse.Namespace) -> int:
    return _look(options, lambda status: status, top_view)


def _inspect(options: argparse.Namespace) -> int:
    return _look(options, lambda status: status.links, slot_view)


def _look(options: argparse.Namespace, once: Callable[[Status], Any], draw: Callable[[Status], RenderableType]) -> int:
    """Live until Ctrl-C or the pipeline's end; where there is no terminal to draw on, one picture."""
    console = Console(width=None if sys.stdout.isatty() else SUMMARY_WIDTH)
    with ControlLine(control_endpoint(options.name)) as launcher:
        if options.once:
            sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(once(launcher.status()))) + b"\n")
        elif not console.is_terminal:
            console.print(draw(launcher.status()))
        else:
            _draw_until_end(console, lambda: draw(launcher.status()))
    return EXIT_OK


def _draw_until_end(console: Console, draw: Callable[[], RenderableType]) -> None:
    with (
        contextlib.suppress(KeyboardInterrupt, LauncherSilent),
        Live(draw(), console=console, auto_refresh=False) as live,
    ):
        while True:
            live.update(draw(), refresh=True)
            time.sleep(LOOK_SECONDS)


def _trace(options: argparse.Namespace) -> int:
    console = Console(width=None if sys.stdout.isatty() else SUMMARY_WIDTH)
    with ControlLine(control_endpoint(options.name)) as launcher:
        traces = launcher.traces()
        if not traces.every:
            print(OFF, file=sys.stderr)
            return EXIT_USAGE
        if not options.follow:
            if options.json:
                sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(traces)) + b"\n")
            else:
                console.print(trace_view(traces))
        elif console.is_terminal and not options.json:
            _draw_until_end(console, lambda: trace_view(launcher.traces()))
        else:
            _write_until_end(console, launcher, as_json=options.json)
    return EXIT_OK


def _write_until_end(console: Console, launcher: ControlLine, *, as_json: bool) -> None:
    """Each frame once, as it is traced."""
    new = NewTraces()
    with contextlib.suppress(KeyboardInterrupt, LauncherSilent, BrokenPipeError):
        while True:
            for trace in new.of(launcher.traces()):
                if as_json:
                    print(msgspec.json.encode(trace).decode(), flush=True)
                else:
                    console.print(waterfall(trace))
            time.sleep(LOOK_SECONDS)


def _record(options: argparse.Namespace) -> int:
    """Until Ctrl-C, a limit, or the stream's end."""
    endpoint = control_endpoint(options.name)
    writer = RecordingWriter(options.output)
    recorder = StreamRecorder(endpoint, writer, new_recording(), options.max_bytes, options.seconds, options.stream)
    try:
        with SignalNotes(signal.SIGINT, signal.SIGTERM) as notes:
            recorder.run(notes.fd, lambda: bool(notes.take()))
    except RecorderRefused as refused:
        print(refused, file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        print(f"{options.output}: {error.strerror}; it is good up to there", file=sys.stderr)
        return EXIT_FAILED
    finally:
        writer.close()
        if not recorder.has_begun:
            options.output.unlink()
    if not options.output.exists():
        print(f"{options.output}: not made: {recorder.reason} before anything came", file=sys.stderr)
        return EXIT_FAILED
    came = f"{recorder.segments} segments in, {recorder.frames} pictures out, {writer.size / 1e6:.1f} MB"
    print(f"{options.output}: {recorder.media_seconds:.1f} s, {came}; {recorder.reason}")
    return EXIT_OK


def _replay(options: argparse.Namespace) -> int:
    report = replay(
        options.recording,
        speed=options.speed,
        topology=options.topology,
        overrides=dict(map(parse_override, options.set)),
        against=options.against,
        output=options.output,
        video=options.video,
        tolerance=options.tolerance,
        exact=options.exact,
    )
    if options.json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    else:
        print(*report.lines(), sep="\n")
    return EXIT_OK if report.same else EXIT_FAILED


def _health(options: argparse.Namespace) -> int:
    try:
        with ControlLine(control_endpoint(options.name)) as launcher:
            status = launcher.status()
    except NotRunning as error:
        print(error)
        return EXIT_FAILED
    print(": ".join([status.state, *status.reasons]))
    return EXIT_OK if status.healthy else EXIT_FAILED


def _restart(options: argparse.Namespace) -> int:
    with ControlLine(control_endpoint(options.name)) as launcher:
        answer = launcher.restart(options.stage)
    print(answer.text, file=sys.stdout if answer.ok else sys.stderr)
    return EXIT_OK if answer.ok else EXIT_USAGE


def _log_level(options: argparse.Namespace) -> int:
    with ControlLine(control_endpoint(options.name)) as launcher:
        answer = launcher.set_log_level(options.stage, options.level)
    print(answer.text, file=sys.stdout if answer.ok else sys.stderr)
    return EXIT_OK if answer.ok else EXIT_USAGE


def _update(options: argparse.Namespace) -> int:
    params = _params(options.params)
    with ControlLine(control_endpoint(options.name)) as launcher:
        answer = launcher.update(options.stage, params, renew=options.renew)
    print(answer.text, file=sys.stdout if answer.ok else sys.stderr)
    return EXIT_OK if answer.ok else EXIT_USAGE


def _bench(options: argparse.Namespace) -> int:
    from pipeline.bench.command import bench  # With all that it takes to play, watch and count.

    return bench(options, lambda: _load(options), shlex.join([COMMAND, *sys.argv[1:]]))


def _params(text: str) -> dict[str, Any]:
    try:
        params = yaml.safe_load(Path(text[1:]).read_text() if text.startswith("@") else text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TopologyFileError(f"PARAMS {text}: no YAML or JSON: {' '.join(str(error).split())}") from error
    if not isinstance(params, dict) or not all(isinstance(key, str) for key in params):
        raise TopologyFileError(f"PARAMS {text}: needed is a map of names to values, such as '{{levels: 3}}'")
    return params


def _outside(stage: Stage) -> Iterator[tuple[str, bool]]:
    """What a stage reads (True) and writes (False) outside of the links."""
    match stage:
        case Ingress(source=None):
            yield ON_REQUEST, True
        case Ingress(source=Source() as end):
            yield str(end.trickle or end.file or end.recording), True
        case Egress(sink=None):
            yield ON_REQUEST, False
        case Egress(sink=Sink() as end):
            yield from ((target, False) for target in (end.trickle, end.file) if target)
        case Publisher(file=file, channel=channel):
            yield from ((file, True), (channel, False))
        case Recorder(file=file, channel=channel):
            yield from ((channel, True), (file, False))


def _load(options: argparse.Namespace) -> Topology:
    return load_topology(find_topology(options.file), dict(map(parse_override, options.set)))


if __name__ == "__main__":
    sys.exit(main())
