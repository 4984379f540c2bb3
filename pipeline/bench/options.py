"""What `launcher.py bench` can be told. It imports nothing heavy: every command of the launcher reads it."""

import argparse
from pathlib import Path

SECONDS, MIN_SECONDS, MAX_SECONDS = 5.0, 1.0, 600.0
LATENCY_MS = 100.0
MAX_FPS, HIGHEST_FPS = 480.0, 1000.0
REFERENCE_FPS = 30.0
REPEATS, KILLS = 3, 3


def add_options(parser: argparse.ArgumentParser) -> None:
    """Beside FILE and --set, which other commands have too."""
    parser.add_argument("--report", type=Path, metavar="HTML", help="write the report there, one file with its plots")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every figure there, for --against and programs"
    )
    parser.add_argument(
        "--against", type=Path, metavar="JSON", help="compare with an earlier --json, noise taken into account"
    )
    parser.add_argument(
        "--fail-if-worse", action="store_true", help="with --against: exit with 1 if a figure is worse beyond the noise"
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"of each step that are measured (default {SECONDS:g})"
    )
    parser.add_argument(
        "--latency-ms",
        type=float,
        default=LATENCY_MS,
        metavar="MS",
        help=f"what the 95th percentile may reach, from the source to a viewer (default {LATENCY_MS:g})",
    )
    parser.add_argument(
        "--max-fps", type=float, default=MAX_FPS, metavar="FPS", help=f"look no higher (default {MAX_FPS:g})"
    )
    parser.add_argument(
        "--fps",
        type=float,
        default=REFERENCE_FPS,
        help=f"of a stream, for latency, costs, kills and the number of streams (default {REFERENCE_FPS:g})",
    )
    parser.add_argument("--size", metavar="WxH", help="of the source's pictures (default: the topology's frame)")
    parser.add_argument(
        "--repeats", type=int, default=REPEATS, metavar="N", help=f"of each figure, for its spread (default {REPEATS})"
    )
    parser.add_argument(
        "--kills", type=int, default=KILLS, metavar="N", help=f"of each stage; 0: none (default {KILLS})"
    )


def problem_of(options: argparse.Namespace) -> str:
    """The first mistake, in one line; empty when there is none."""
    limits = (
        ("--seconds", options.seconds, MIN_SECONDS, MAX_SECONDS),
        ("--latency-ms", options.latency_ms, 1, 60_000),
        ("--max-fps", options.max_fps, 1, HIGHEST_FPS),
        ("--fps", options.fps, 1, HIGHEST_FPS),
        ("--repeats", options.repeats, 1, 100),
        ("--kills", options.kills, 0, 100),
    )
    for option, value, lowest, highest in limits:
        if not lowest <= value <= highest:
            return f"{option} {value:g}: needed: {lowest:g} to {highest:g}"
    if options.fail_if_worse and options.against is None:
        return "--fail-if-worse goes with --against"
    if options.size is not None and size_of(options.size) is None:
        return f"--size {options.size}: needed: WIDTHxHEIGHT, even numbers from 64 to 8192, such as 1280x720"
    for option, path in (("--report", options.report), ("--json", options.json)):
        if path is not None and not path.parent.is_dir():
            return f"{option} {path}: there is no folder {path.parent}"
    return ""


def size_of(text: str) -> tuple[int, int] | None:
    """Width and height of `1280x720`; None if it is no size of a picture."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        return None
    size = int(width), int(height)
    return size if all(64 <= side <= 8192 and side % 2 == 0 for side in size) else None
