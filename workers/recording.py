"""Recording: keeps what the stream was fed and what came of it in a file, where `run --record` asks for it."""

import select
from pathlib import Path

from pipeline.control import LauncherSilent
from pipeline.recording.format import RecordingError, RecordingWriter
from pipeline.recording.recorder import RecorderRefused, StreamRecorder
from pipeline.worker import Worker, WorkerRefused, run


def main(worker: Worker) -> None:
    boot = worker.boot
    section, tap = boot.recording, boot.tap
    assert section is not None
    assert tap is not None
    path = Path(section.file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = RecordingWriter(path, goes_on=boot.incarnation > 1)
    except OSError as error:
        raise WorkerRefused(f"recording.file: {path}: {error.strerror}") from error
    except RecordingError as error:
        raise WorkerRefused(f"recording.file: {error}") from error
    recorder = StreamRecorder(boot.control_endpoint, writer, tap.recording, section.max_bytes, section.seconds)
    worker.ready(str(path))
    try:
        recorder.run(worker.wake_fd, lambda: is_drained(worker))
        worker.info("recorded", file=str(path), why=recorder.reason, frames=recorder.frames, bytes=writer.size)
    except OSError as error:
        worker.error("recording_stopped", file=str(path), problem=error.strerror or "")
    except (RecorderRefused, LauncherSilent) as error:
        worker.error("recording_stopped", file=str(path), problem=str(error))
    writer.close()
    if not recorder.has_begun and writer.is_new:
        path.unlink()  # Nothing ever came.
    wait_until_drained(worker)


def is_drained(worker: Worker) -> bool:
    """To be asked when the process was woken, for whatever reason."""
    worker.clear_wake()
    return worker.draining


def wait_until_drained(worker: Worker) -> None:
    """A service that leaves by itself would be started again."""
    woken = select.poll()
    woken.register(worker.wake_fd, select.POLLIN)
    while not is_drained(worker):
        woken.poll()


if __name__ == "__main__":
    run(main)
