"""A whole pipeline against a relay that wants tokens, over TLS where a stage says so; and one with a wrong token."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.media.verify import verify_recording
from tests.integration.conftest import FPS
from tests.integration.running import RunningPipeline
from tests.trickle.certificates import make_identity

Launch = Callable[..., RunningPipeline]

SECRET, WRITTEN_OUT = "from-the-environment", "written-in-the-file"


@pytest.fixture
def sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, object], dict[str, object]]:
    """A relay with tokens and an encrypted port, and a sink that writes there."""
    monkeypatch.setenv("ACCESS_TEST_TOKEN", SECRET)
    made = make_identity(tmp_path, "relay")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    relay = {
        "port": 0,
        "publish_tokens": ["${ACCESS_TEST_TOKEN}"],
        "subscribe_tokens": [WRITTEN_OUT],
        "tls": {"port": port, "certificate": made.certificate, "key": made.key},
    }
    sink = {"trickle": f"https://127.0.0.1:{port}/output", "tls": {"ca": made.certificate}}
    return relay, sink


def test_stages_open_the_relay_with_tokens_that_nobody_gets_to_see(
    launch: Launch, source: Path, tmp_path: Path, sections: tuple[dict[str, object], dict[str, object]]
) -> None:
    relay, sink = sections
    pipeline = launch(source, relay=relay, stages__egress__sink=sink | {"token": "${ACCESS_TEST_TOKEN}"})
    pipeline.wait_for("relay.channel_created stage=relay channel=output")
    shown = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in [pipeline.process.pid, *pipeline.pids()])

    assert pipeline.end() == 0, pipeline.log
    assert verify_recording(tmp_path / "seen.mp4", FPS).frames == pipeline.summary().frames.delivered > 0
    for secret in (SECRET, WRITTEN_OUT):
        assert secret not in pipeline.log
        assert secret.encode() not in shown


def test_a_token_that_may_only_read_ends_the_run_with_the_key_to_change(
    launch: Launch, source: Path, sections: tuple[dict[str, object], dict[str, object]]
) -> None:
    relay, sink = sections
    pipeline = launch(source, relay=relay, stages__egress__sink=sink | {"token": WRITTEN_OUT})

    assert pipeline.end() == 2, pipeline.log
    pipeline.wait_for(
        r"^egress: stages\.egress\.sink\.token: .*status 403 .*; give another token, that this server takes"
    )
    assert "Traceback" not in pipeline.log
    assert WRITTEN_OUT not in pipeline.log
