"""The command line of FFmpeg on the same work, when there is one on PATH."""

import resource
import shutil
import subprocess
from pathlib import Path

from benchmarks.end_to_end_peers.cases import CRF, GOP_SECONDS, PRESET
from benchmarks.media_peers.work import FPS, WARM_UP, Work


def installed() -> bool:
    return shutil.which("ffmpeg") is not None


def version() -> str:
    """Empty when there is none."""
    if not installed():
        return ""
    said = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=False).stdout
    return " ".join(said.split()[:3])


def measure(work: Work, source: Path, pictures: int, fps: int = FPS) -> float:
    """CPU ms per picture, without its start. Raises RuntimeError with what it said when it fails."""
    whole, start = (_cpu_s(work, source, count, fps) for count in (pictures, WARM_UP))
    return 1000 * (whole - start) / (pictures - WARM_UP)


def _cpu_s(work: Work, source: Path, pictures: int, fps: int) -> float:
    width, height = work.crop
    filters = f"crop={width}:{height},scale={work.out_width}:{work.out_height}:flags=area,format=rgb24,format=yuv420p"
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-threads", "1", "-filter_threads", "1", "-i", str(source)]
    command += ["-frames:v", str(pictures), "-vf", filters, "-c:a", "copy"]
    command += ["-c:v", "libx264", "-preset", PRESET, "-tune", "zerolatency", "-crf", str(CRF), "-threads", "1"]
    command += ["-g", str(round(GOP_SECONDS * fps)), "-sc_threshold", "0", "-f", "mpegts", "/dev/null"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ffmpeg ended with {done.returncode}: {done.stderr.strip()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
