import asyncio
import logging
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from pipeline import byoc, log
from pipeline.byoc import CapabilityRegistration, RegistrationRefused, SecretMissing
from pipeline.topology_byoc import Byoc
from pipeline.trickle.tls import TlsFileError
from tests.orchestrator import Orchestrator
from tests.trickle.certificates import make_identity

SECRET = "orch s3cret!"
TOKEN = "w0rker-token"
PATIENCE_S = 10.0


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byoc, "FIRST_DELAY_S", 0.01)


class Lines(list[str]):
    """What the project logs, and hands to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def write(self, line: str) -> None:
        self.append(line)
        self._news.set()

    async def wait_for(self, text: str) -> str:
        """The first line with `text` in it."""
        async with asyncio.timeout(PATIENCE_S):
            while not (found := [line for line in self if text in line]):
                self._news.clear()
                await self._news.wait()
        return found[0]


@pytest.fixture(autouse=True)
async def lines() -> Lines:
    lines = Lines()
    log.configure("DEBUG", lines.write)
    return lines


@pytest.fixture
async def orchestrator() -> AsyncIterator[Orchestrator]:
    orchestrator = Orchestrator(SECRET)
    await orchestrator.start()
    yield orchestrator
    await orchestrator.close()


def settings(port: int, **changes: object) -> Byoc:
    given = {
        "orchestrator_url": f"http://127.0.0.1:{port}",
        "orch_secret": SECRET,
        "capability_name": "edges",
        "capability_url": "http://node.example:9876/",
    }
    return msgspec.convert({**given, **changes}, Byoc)


async def test_a_node_is_registered_while_it_runs_and_not_after(orchestrator: Orchestrator, lines: Lines) -> None:
    changes = {"description": "Edges of everything", "capacity": 2, "price_per_unit": 7, "price_scaling": 3}
    registration = CapabilityRegistration(settings(orchestrator.port, worker_token=TOKEN, **changes))
    async with registration:
        await lines.wait_for("byoc.registered")
        assert orchestrator.capabilities == {
            "edges": {
                "name": "edges",
                "description": "Edges of everything",
                "url": "http://node.example:9876",
                "capacity": 2,
                "price_per_unit": 7,
                "price_scaling": 3,
                "currency": "wei",
                "token": TOKEN,
            }
        }
        assert registration.problem == ""
    assert orchestrator.capabilities == {}
    assert not registration.registered
    assert orchestrator.requests == ["register", "unregister"]


async def test_a_node_without_a_token_registers_none(orchestrator: Orchestrator) -> None:
    await CapabilityRegistration(settings(orchestrator.port)).register()
    assert orchestrator.capabilities["edges"]["token"] == ""


async def test_an_orchestrator_that_starts_later_is_waited_for(orchestrator: Orchestrator, lines: Lines) -> None:
    port = orchestrator.port
    await orchestrator.close()
    registration = CapabilityRegistration(settings(port))
    async with registration:
        await lines.wait_for("cannot be reached")
        await orchestrator.start(port)
        await lines.wait_for("byoc.registered")
    assert orchestrator.capabilities == {}


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_an_orchestrator_that_is_busy_is_asked_again(
    orchestrator: Orchestrator, lines: Lines, status: int
) -> None:
    orchestrator.answers = [(status, {})] * 3
    await CapabilityRegistration(settings(orchestrator.port)).register()
    assert "edges" in orchestrator.capabilities
    assert orchestrator.requests == ["register"] * 4
    assert sum("not_registered" in line for line in lines) == 1  # One line, not one for each attempt.


async def test_an_orchestrator_that_says_nothing_is_asked_again(monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
    monkeypatch.setattr(byoc, "TIMEOUT_S", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        registration = CapabilityRegistration(settings(server.sockets[0].getsockname()[1]))
        async with registration:
            await lines.wait_for("byoc.not_registered")
            assert registration.problem == "no answer within 0.05 s"


async def test_a_wrong_secret_is_told_once_and_not_tried_again(orchestrator: Orchestrator, lines: Lines) -> None:
    registration = CapabilityRegistration(settings(orchestrator.port, orch_secret="wr0ng secret"))
    with pytest.raises(RegistrationRefused, match=r"orch_secret: status 400 invalid authorization; .* -orchSecret"):
        await registration.register()
    async with registration:
        await lines.wait_for("byoc.refused")
        assert "orch_secret" in registration.problem
    assert orchestrator.requests == ["register"] * 2  # And no unregister of what was never registered.
    assert sum("byoc.refused" in line for line in lines) == 1
    assert "wr0ng" not in "\n".join([*lines, registration.problem])


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, "takes capabilities"), (405, "takes capabilities"), (401, "orch_secret"), (422, "422"), (307, "leads to")],
)
async def test_an_answer_that_will_not_change_ends_the_attempts(
    orchestrator: Orchestrator, status: int, text: str
) -> None:
    orchestrator.answers = [(status, {"Location": "http://127.0.0.1:1/"} if status == 307 else {})]
    with pytest.raises(RegistrationRefused, match=text):
        await CapabilityRegistration(settings(orchestrator.port)).register()
    assert orchestrator.requests == ["register"]


async def test_a_registration_that_may_have_arrived_is_taken_back(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byoc, "FIRST_DELAY_S", 60.0)
    orchestrator.answers = [(502, {})]  # A proxy lost the answer.
    orchestrator.capabilities["edges"] = {}
    async with CapabilityRegistration(settings(orchestrator.port)), asyncio.timeout(PATIENCE_S):
        await orchestrator.came.wait()
    assert orchestrator.requests == ["register", "unregister"]
    assert orchestrator.capabilities == {}


async def test_an_orchestrator_that_is_gone_does_not_hold_up_the_end(orchestrator: Orchestrator, lines: Lines) -> None:
    registration = CapabilityRegistration(settings(orchestrator.port))
    async with registration:
        await lines.wait_for("byoc.registered")
        await orchestrator.close()
    assert any("byoc.not_unregistered" in line and "cannot be reached" in line for line in lines)


async def test_a_currency_without_a_price_feed_is_hinted_at(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    monkeypatch.setattr(byoc, "FIRST_DELAY_S", 60.0)
    registration = CapabilityRegistration(settings(orchestrator.port, currency="USD"))
    async with registration:
        await lines.wait_for("byoc.not_registered")
        assert "currency is USD, try wei or eth" in registration.problem


async def test_an_orchestrators_certificate_is_checked(tmp_path: Path, lines: Lines) -> None:
    identity, other = make_identity(tmp_path, "orchestrator"), make_identity(tmp_path, "other")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(identity.certificate, identity.key)
    orchestrator = Orchestrator(SECRET)
    await orchestrator.start(ssl_context=context)
    url = f"https://127.0.0.1:{orchestrator.port}"
    try:
        await CapabilityRegistration(settings(0, orchestrator_url=url, ca=identity.certificate)).register()
        assert "edges" in orchestrator.capabilities
        orchestrator.requests.clear()
        for ca in (None, other.certificate):
            lines.clear()
            async with CapabilityRegistration(settings(0, orchestrator_url=url, ca=ca)):
                await lines.wait_for("certificate is not trusted")
        assert orchestrator.requests == []
    finally:
        await orchestrator.close()


async def test_a_new_certificate_is_taken_from_its_file(
    tmp_path: Path, orchestrator: Orchestrator, lines: Lines
) -> None:
    old, new = make_identity(tmp_path, "old"), make_identity(tmp_path, "new")
    ca = tmp_path / "ca.pem"
    shutil.copy(old.certificate, ca)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(new.certificate, new.key)
    await orchestrator.close()
    await orchestrator.start(ssl_context=context)
    url = f"https://127.0.0.1:{orchestrator.port}"
    registration = CapabilityRegistration(settings(0, orchestrator_url=url, ca=str(ca)))
    async with registration:
        await lines.wait_for("byoc.not_registered")
        shutil.copy(new.certificate, ca)
        await lines.wait_for("byoc.registered")


async def test_secrets_come_from_the_environment_and_are_shown_nowhere(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    monkeypatch.setenv("ORCH_SECRET", SECRET)
    monkeypatch.setenv("NODE_TOKEN", TOKEN)
    given = settings(orchestrator.port, orch_secret="${ORCH_SECRET}", worker_token="${NODE_TOKEN}")
    registration = CapabilityRegistration(given)
    with everything_logged() as records:
        async with registration:
            await lines.wait_for("byoc.registered")
            assert orchestrator.capabilities["edges"]["token"] == TOKEN
    shown = "\n".join([repr(given), repr(settings(1)), repr(registration), *lines, *records])
    assert "edges" in shown
    assert SECRET not in shown
    assert TOKEN not in shown


@contextmanager
def everything_logged():
    """What any library logs, at any level."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield records
    root.removeHandler(handler)
    root.setLevel(level)


async def test_a_secret_that_is_echoed_is_hidden() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = f"Error registering capability: {SECRET} {TOKEN}".encode()
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        given = settings(server.sockets[0].getsockname()[1], worker_token=TOKEN)
        with pytest.raises(RegistrationRefused, match=r"capability: \(hidden\) \(hidden\)"):
            await CapabilityRegistration(given).register()


def test_a_secret_that_is_missing_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SecretMissing, match="orch_secret: environment variable NO_SUCH_SECRET is not set"):
        CapabilityRegistration(settings(1, orch_secret="${NO_SUCH_SECRET}"))
    with pytest.raises(SecretMissing, match="orch_secret: its value cannot be sent") as refused:
        CapabilityRegistration(settings(1, orch_secret="two\nlines"))
    assert "lines" not in str(refused.value)
    monkeypatch.setenv("NODE_TOKEN", "not a token")
    with pytest.raises(SecretMissing, match="worker_token: environment variable NODE_TOKEN cannot be sent"):
        CapabilityRegistration(settings(1, worker_token="${NODE_TOKEN}"))


def test_an_authority_that_cannot_be_read_is_named_at_the_start() -> None:
    with pytest.raises(TlsFileError, match=r"no-such\.pem"):
        CapabilityRegistration(settings(1, orchestrator_url="https://127.0.0.1:1", ca="no-such.pem"))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"orchestrator_url": "127.0.0.1:8935"}, "orchestrator_url.*allowed: http"),
        ({"orchestrator_url": "https://user:hunter2@host"}, "orchestrator_url: a user in the URL"),
        ({"capability_url": "http://node?x=1"}, "capability_url.*allowed: http"),
        ({"capability_name": "a,b"}, "capability_name.*comma"),
        ({"capability_name": " edges"}, "capability_name.*no spaces around"),
        ({"capacity": 0}, "capacity"),
        ({"price_scaling": 0}, "price_scaling"),
        ({"price_per_unit": -1}, "price_per_unit"),
        ({"price_per_unit": 1 << 63}, "price_per_unit"),
        ({"price": 1}, "price"),
    ],
)
def test_a_mistake_in_the_settings_is_named(change: dict[str, object], problem: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=problem) as refused:
        settings(1, **change)
    assert "hunter2" not in str(refused.value)
