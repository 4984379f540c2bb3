"""The relay as a topology describes it: what its section may say, and the process that the launcher starts for it."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from pipeline.listeners import PortInUse
from pipeline.run_dir import RunDir
from pipeline.stage_process import StageProcess
from pipeline.topology_file import TopologyFileError, load_topology
from pipeline.topology_sections import Relay, RelayLimits
from pipeline.trickle import SegmentRefused, TricklePublisher, TrickleSubscriber
from pipeline.trickle.tls import client_context
from pipeline.wiring import Wiring
from pipeline.worker import EXIT_REFUSED
from pipeline.worker_boots import inherited_fds, worker_boot
from tests.trickle.certificates import make_identity
from tests.trickle.wire import connect, url

DEMO = Path(__file__).resolve().parents[2] / "configs/demo.yaml"
SMALL = {"relay.port": 0, "api.port": 0, "frame.width": 16, "frame.height": 16}
TOKEN = "a-token-for-tests"


@contextmanager
def wired(held_dir: RunDir, **relay: object) -> Iterator[Wiring]:
    overrides = SMALL | {f"relay.{key}": value for key, value in relay.items()}
    wiring = Wiring(load_topology(DEMO, overrides), held_dir)
    try:
        yield wiring
    finally:
        wiring.close()


@contextmanager
def relay_process(wiring: Wiring) -> Iterator[StageProcess]:
    boot = worker_boot(wiring, "relay", 1)
    process = StageProcess(boot, "relay", inherited_fds(boot))
    try:
        yield process
    finally:
        process.wait()
        process.close()


def ports_of(wiring: Wiring) -> list[int]:
    return [listener.getsockname()[1] for listener in (wiring.listeners.services["relay"], *wiring.listeners.media)]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("media_ports", [70_000], r"relay\.media_ports\.\[0\]: Expected `int` <= 65535"),
        ("media_ports", [5679, 5678], r"relay\.media_ports\.1: 5678 is relay\.port already; allowed: another port"),
        ("media_ports", [5679, 5679], r"relay\.media_ports\.1: 5679 is relay\.media_ports\.0 already"),
        ("media_ports", [9876], r"relay\.media_ports\.0: 9876 is api\.port already"),
        ("publish_tokens", [TOKEN, "short"], r"relay\.publish_tokens\.1: no bearer token; allowed: \$\{NAME\}, or 8 "),
        ("publish_tokens", ["${NO SPACE}"], r"relay\.publish_tokens\.0: no bearer token"),
        ("subscribe_tokens", [TOKEN], r"relay\.subscribe_tokens: anybody could still write; give publish_tokens too"),
        ("cors_origins", ["https://a.example/"], r"relay\.cors_origins\.0: .*without a path"),
        ("channels", {"a": "video/MP2T\r\nX: y"}, r"relay\.channels\.a: .* is no content type"),
        ("channels", {"..": "video/MP2T"}, r"relay\.channels: no channel can be named"),
        ("autocreate", False, r"stages\.publisher\.channel: 'input' cannot be made with relay\.autocreate off"),
        ("tls", {"certificate": "a.pem"}, r"relay\.tls: missing key 'key'"),
        (
            "tls",
            {"certificate": "no/such.pem", "key": "a.key"},
            r"relay\.tls\.certificate: no/such\.pem: No such file or directory; allowed: a PEM file",
        ),
        ("limits", {"max_chanels": 3}, r"relay\.limits\.max_chanels: unknown key; allowed here: max_channels"),
        ("limits", {"max_channels": 0}, r"relay\.limits\.max_channels: Expected `int` >= 1"),
        ("limits", {"segments_per_channel": 1}, r"relay\.limits\.segments_per_channel: Expected `int` >= 3"),
        ("limits", {"head_timeout_s": 0}, r"relay\.limits\.head_timeout_s: Expected `float` > 0"),
    ],
)
def test_a_mistake_in_the_relays_section_is_named(key: str, value: object, said: str) -> None:
    with pytest.raises(TopologyFileError, match=rf"^[^\n]*demo\.yaml:\d+: {said}"):
        load_topology(DEMO, {f"relay.{key}": value})


def test_every_limit_has_a_default_that_the_schema_allows() -> None:
    assert msgspec.convert(msgspec.to_builtins(RelayLimits()), RelayLimits) == RelayLimits()


def test_the_stages_own_token_is_the_first_that_may_write() -> None:
    assert Relay(publish_tokens=("${ONE}", TOKEN)).own_token == "${ONE}"
    assert Relay().own_token is None


def test_the_relay_is_told_of_its_section_and_its_ports_and_its_users_of_their_token(held_dir: RunDir) -> None:
    with wired(held_dir, media_ports=[0, 0], publish_tokens=[TOKEN]) as wiring:
        boots = {stage: worker_boot(wiring, stage, 1) for stage in wiring.stage_names()}
        relay = boots.pop("relay")
        assert len(set(ports_of(wiring))) == 3
        assert {relay.listen_fd, *relay.media_fds} < set(inherited_fds(relay))
        assert relay.relay == wiring.topology.relay
        assert all(boot.relay is None and not boot.media_fds for boot in boots.values())
        told = {stage for stage, boot in boots.items() if TOKEN.encode() in msgspec.msgpack.encode(boot)}
        assert told == {"publisher", "ingress", "egress", "recorder", "api"}, "those that use its channels"


def test_a_media_port_that_is_taken_is_named_with_its_key_and_nothing_stays_open(held_dir: RunDir) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        before = len(os.listdir("/proc/self/fd"))
        said = (
            rf"^relay\.media_ports\.1: cannot listen on 127\.0\.0\.1 port {port}: .*set relay\.media_ports\.1 to a free"
        )
        with pytest.raises(PortInUse, match=said), wired(held_dir, media_ports=[0, port]):
            pass
        assert len(os.listdir("/proc/self/fd")) == before


async def test_the_relays_process_serves_one_namespace_on_all_its_ports_and_may_be_restarted(held_dir: RunDir) -> None:
    with wired(held_dir, media_ports=[0, 0]) as wiring:
        first, second, third = ports_of(wiring)
        for life in (b"one", b"two"):
            with relay_process(wiring):
                async with TricklePublisher(url(second)) as publisher, TrickleSubscriber(url(third), 0) as subscriber:
                    async with await publisher.next() as segment:
                        await segment.write(life)
                    assert await (await subscriber.next()).read() == life
                async with connect(first) as raw:
                    assert (await raw.request("GET", "/a/next"))[0].status == 404


async def test_the_relays_process_takes_its_limits_and_tokens_from_the_topology(
    held_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELAY_TEST_TOKEN", TOKEN)
    with (
        wired(held_dir, publish_tokens=["${RELAY_TEST_TOKEN}"], limits={"max_segment_bytes": 1024}) as wiring,
        relay_process(wiring),
    ):
        (port,) = ports_of(wiring)
        with pytest.raises(SegmentRefused, match="status 401"):
            await TricklePublisher(url(port)).create()
        async with connect(port) as raw:
            await raw.begin_post("/a/0", f"Authorization: Bearer {TOKEN}")
            await raw.chunk(bytes(1025))
            assert (await raw.head()).status == 413


async def test_the_relays_process_serves_the_same_channels_over_tls(held_dir: RunDir, tmp_path: Path) -> None:
    made = make_identity(tmp_path, "relay")
    tls = {"certificate": made.certificate, "key": made.key, "port": 0}
    with wired(held_dir, tls=tls, media_ports=[0]) as wiring, relay_process(wiring):
        encrypted = wiring.listeners.relay_tls.getsockname()[1]
        plain, _ = ports_of(wiring)
        target = url(encrypted).replace("http:", "https:")
        trusting = client_context(made.certificate, None, None)
        async with connect(plain) as raw:  # A handshake has a limit, and the process may still be starting.
            await raw.request("GET", "/a/next")
        async with TricklePublisher(target, ssl_context=trusting) as publisher:
            async with await publisher.next() as segment:
                await segment.write(b"over TLS")
            async with TrickleSubscriber(url(plain), 0) as subscriber:
                assert await (await subscriber.next()).read() == b"over TLS"


def test_a_token_that_is_not_set_ends_the_relay_for_good(held_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELAY_TEST_TOKEN", raising=False)
    with wired(held_dir, publish_tokens=["${RELAY_TEST_TOKEN}"]) as wiring, relay_process(wiring) as process:
        os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
        assert process.wait() == EXIT_REFUSED
