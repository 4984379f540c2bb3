import asyncio
import ssl
from pathlib import Path

import pytest

from pipeline.client import (
    ComfyStreamTrickleClient,
    ServerUnreachable,
    StreamRefused,
    TokenRefused,
    UnexpectedAnswer,
)
from pipeline.trickle.bearer import TokenMissing
from pipeline.trickle.tls import TlsFileError
from tests.client.node import Node
from tests.trickle.certificates import make_identity

WORKFLOW = {"1": {"class_type": "LoadTensor", "inputs": {}}}


def at(node: Node, **options: object) -> ComfyStreamTrickleClient:
    return ComfyStreamTrickleClient("127.0.0.1", node.port, **options)


async def closed_port() -> int:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


def test_a_new_client_has_the_documented_attributes() -> None:
    client = ComfyStreamTrickleClient()
    assert (client.host, client.port, client.base_url) == ("localhost", 9876, "http://localhost:9876")
    assert client.subscribe_url == "http://localhost:5678/input"
    assert client.publish_url == "http://localhost:5679/output"


def test_an_ipv6_host_is_put_into_brackets() -> None:
    client = ComfyStreamTrickleClient("::1", media_ports=(1, 2))
    assert client.base_url == "http://[::1]:9876"
    assert (client.subscribe_url, client.publish_url) == ("http://[::1]:1/input", "http://[::1]:2/output")


async def test_a_stream_is_started_with_the_channels_and_the_workflow(node: Node) -> None:
    client = at(node)
    client.events_url = "http://127.0.0.1:1/events"
    answer = await client.start_stream([WORKFLOW], 640, 360, params={"strength": 2}, gateway_request_id="g-7")
    assert answer["status"] == "success"
    assert node.last == (
        "POST",
        "/stream/start",
        {
            "subscribe_url": client.subscribe_url,
            "publish_url": client.publish_url,
            "events_url": client.events_url,
            "gateway_request_id": "g-7",
            "params": {"strength": 2, "prompts": [WORKFLOW], "width": 640, "height": 360},
        },
    )


async def test_a_stream_without_a_workflow_names_none(node: Node) -> None:
    await at(node).start_stream()
    assert node.last[2]["params"] == {"width": 512, "height": 512}


async def test_what_follows_a_start_is_about_that_stream(node: Node) -> None:
    client = at(node)
    await client.start_stream(stream_id="a/b c")
    assert client.stream_id == "a/b c"
    assert (await client.get_status())["current_stream"]["stream_id"] == "a/b c"
    await client.update_params({"strength": 3})
    assert node.last == ("POST", "/stream/a/b c/params", {"strength": 3})
    await client.pause_stream(show="input")
    assert node.last == ("POST", "/stream/a/b c/pause", {"show": "input"})
    await client.resume_stream()
    assert node.last == ("POST", "/stream/a/b c/resume", {})
    await client.stop_stream()
    assert node.running is None
    assert client.stream_id is None


async def test_the_id_that_the_service_gives_is_used(node: Node) -> None:
    client = at(node)
    await client.start_stream()
    await client.get_status()
    assert node.last[:2] == ("GET", "/stream/s-1/status")


async def test_a_client_that_started_nothing_asks_for_the_stream_that_runs(node: Node) -> None:
    await at(node).start_stream()
    other = at(node)
    assert (await other.get_status())["current_stream"]["stream_id"] == "s-1"
    assert (await other.streams())["streams"][0]["stream_id"] == "s-1"
    await other.stop_stream()
    assert node.requests[-1][:2] == ("POST", "/stream/stop")


async def test_a_workflow_is_changed_while_the_stream_runs(node: Node) -> None:
    client = at(node)
    await client.start_stream(WORKFLOW)
    await client.update_prompts([WORKFLOW], width=256, height=256)
    assert node.last == ("POST", "/api/prompts/update", {"prompts": [WORKFLOW], "width": 256, "height": 256})
    await client.update_prompts(WORKFLOW)
    assert node.last[2] == {"prompts": WORKFLOW}


async def test_entered_or_not_a_client_does_the_same(node: Node) -> None:
    async with at(node) as client:
        await client.start_stream()
        assert (await client.version())["version"] == "0.1.0"
    await client.stop_stream()
    assert node.running is None


async def test_the_health_of_a_node_that_is_not_well_is_an_answer(node: Node) -> None:
    assert (await at(node).health())["status"] == "OK"
    node.healthy = False
    assert await at(node).health() == {"status": "DEGRADED", "reasons": ["inference"]}


async def test_a_node_that_is_loading_is_waited_for(node: Node) -> None:
    node.loading = 2
    assert (await at(node).wait_until_ready())["status"] == "OK"
    assert len(node.requests) == 3
    node.loading = 1_000
    with pytest.raises(ServerUnreachable, match="is still loading after 0 s"):
        await at(node).wait_until_ready(patience_s=0)


async def test_a_node_that_is_not_there_yet_is_waited_for(node: Node) -> None:
    client = at(node)
    await node.close()
    with pytest.raises(ServerUnreachable, match="curl"):
        await client.wait_until_ready(patience_s=0)
    waiting = asyncio.create_task(client.wait_until_ready())
    with pytest.raises(ServerUnreachable):
        await client.health()
    await node.start(port=client.port)
    assert (await waiting)["status"] == "OK"


async def test_a_refusal_has_the_services_words_and_what_is_allowed(node: Node) -> None:
    with pytest.raises(StreamRefused) as refused:
        await at(node).start_stream(WORKFLOW, width=511)
    error = refused.value
    assert (error.status, error.problem) == (400, "params.width: 511 is no size of a frame")
    assert (error.path, error.allowed) == ("params.width", "even numbers from 16 to 8192")
    assert str(error).endswith(
        "/stream/start: status 400: params.width: 511 is no size of a frame; allowed: even numbers from 16 to 8192"
    )


async def test_a_second_stream_is_refused_and_the_first_goes_on(node: Node) -> None:
    client = at(node)
    await client.start_stream()
    with pytest.raises(StreamRefused, match="status 503: s-1 runs") as refused:
        await client.start_stream()
    assert refused.value.code == "full"
    assert client.stream_id == "s-1"


async def test_a_server_that_is_not_running_is_named_with_the_command_that_shows_it() -> None:
    port = await closed_port()
    with pytest.raises(ServerUnreachable) as unreachable:
        await ComfyStreamTrickleClient("127.0.0.1", port).get_status()
    assert f"Check with: curl http://127.0.0.1:{port}/health" in str(unreachable.value)
    assert "is the server running?" in str(unreachable.value)


async def test_a_host_that_does_not_exist_is_unreachable_too() -> None:
    with pytest.raises(ServerUnreachable, match=r"curl http://no-such-host\.invalid:9876/health"):
        await ComfyStreamTrickleClient("no-such-host.invalid").health()


async def test_a_server_that_says_nothing_is_unreachable_after_the_limit() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        client = ComfyStreamTrickleClient("127.0.0.1", server.sockets[0].getsockname()[1], timeout_s=0.1)
        with pytest.raises(ServerUnreachable, match=r"does not answer GET /health within 0\.1 s"):
            await client.health()


async def test_a_connection_that_breaks_is_told() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        client = ComfyStreamTrickleClient("127.0.0.1", server.sockets[0].getsockname()[1])
        with pytest.raises(ServerUnreachable, match="broke the connection"):
            await client.health()


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"])
async def test_another_program_on_the_port_is_told_from_the_service(answer: bytes) -> None:
    async def other(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    async with server:
        client = ComfyStreamTrickleClient("127.0.0.1", server.sockets[0].getsockname()[1])
        with pytest.raises(UnexpectedAnswer, match="is another program on this port"):
            await client.health()


async def test_a_refusal_that_is_no_json_is_a_refusal_all_the_same(node: Node) -> None:
    with pytest.raises(StreamRefused, match=r"GET http://.*/nowhere: status 404: 404: Not Found"):
        await at(node)._rest.call("GET", "/nowhere", timeout_s=5)


async def test_an_id_cannot_lead_to_another_path(node: Node) -> None:
    client = at(node)
    client.stream_id = "x/../../api"
    with pytest.raises(StreamRefused, match=r"/stream/x%2F\.\.%2F\.\.%2Fapi/status: status 404: there is no stream"):
        await client.get_status()


async def test_the_token_is_sent_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(token="s3cret-token")
    await node.start()
    try:
        monkeypatch.setenv("NODE_TOKEN", "s3cret-token")
        client = at(node, token="${NODE_TOKEN}", media_token="m3dia-token")
        assert (await client.health())["status"] == "OK"
        assert "s3cret" not in repr(client)
        assert "m3dia" not in repr(client)
        wrong = at(node, token="wr0ng-token")
        with pytest.raises(TokenRefused, match="status 401: a bearer token is needed here") as refused:
            await wrong.health()
        assert "wr0ng" not in str(refused.value)
    finally:
        await node.close()


def test_a_token_that_is_none_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="token: not a bearer token") as refused:
        ComfyStreamTrickleClient(token="two\r\nlines")
    assert "two" not in str(refused.value)
    with pytest.raises(TokenMissing, match="NO_SUCH_VARIABLE"):
        ComfyStreamTrickleClient(token="${NO_SUCH_VARIABLE}")


async def test_a_redirect_is_not_followed_with_the_token(node: Node) -> None:
    client = at(node, token="t")
    with pytest.raises(StreamRefused, match="status 307"):
        await client._rest.call("GET", "/elsewhere", timeout_s=5)
    assert node.last[1] == "/elsewhere"


async def test_a_certificate_is_checked_against_the_given_authority(tmp_path: Path) -> None:
    identity = make_identity(tmp_path, "node")
    other = make_identity(tmp_path, "other")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(identity.certificate, identity.key)
    node = Node()
    await node.start(context)
    try:
        client = at(node, ca=identity.certificate)
        assert client.base_url == f"https://127.0.0.1:{node.port}"
        assert (await client.health())["status"] == "OK"
        for untrusting in (at(node, tls=True), at(node, ca=other.certificate)):
            with pytest.raises(ServerUnreachable, match=r"cannot be trusted \(.*certificate.*ca=FILE"):
                await untrusting.health()
    finally:
        await node.close()


def test_an_authority_that_cannot_be_read_is_named() -> None:
    with pytest.raises(TlsFileError, match="no-such-file"):
        ComfyStreamTrickleClient(ca="no-such-file.pem")
