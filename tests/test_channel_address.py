"""What a worker makes of the channels that its stage names: URLs, the tokens themselves, whom to trust."""

from pathlib import Path

import msgspec
import pytest

from pipeline.boot import WorkerBoot
from pipeline.channel_address import ChannelAddress, channel_address
from pipeline.topology import AnyStage, Egress, Ingress, Recorder
from pipeline.topology_sections import ClientTls, Frame, Sink, Source
from pipeline.trickle import AccessDenied
from pipeline.worker import WorkerRefused
from tests.trickle.certificates import make_identity

TOKEN = "a-token-for-tests"
VARIABLE = "CHANNEL_ADDRESS_TOKEN"
NAMED = f"${{{VARIABLE}}}"
ELSEWHERE = "https://server.example/live/out"


def boot(stage: str, spec: AnyStage, **relay: str) -> WorkerBoot:
    return WorkerBoot(
        pipeline="test",
        stage=stage,
        section=f"stages.{stage}",
        incarnation=1,
        launcher_pid=0,
        control_endpoint="",
        stream="main",
        epoch=0,
        log_level="INFO",
        device="cpu",
        frame=Frame(),
        stats_fd=-1,
        spec=spec,
        **relay,
    )


def ingress(**source: object) -> WorkerBoot:
    return boot("in", Ingress(source=Source(trickle=ELSEWHERE, **source), output="encoded"))


def test_a_name_is_on_the_embedded_relay_and_opened_with_its_own_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)
    told = boot(
        "out", Egress(input="styled", sink=Sink(trickle="output")), relay_url="http://127.0.0.1:1", relay_token=NAMED
    )
    address = channel_address("output", told)
    assert (address.url, address.token, address.ssl_context) == ("http://127.0.0.1:1/output", TOKEN, None)


def test_a_url_gets_the_stages_token_and_never_the_relays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)
    spec = Recorder(channel="output", compare=ELSEWHERE, file="seen.mp4", token=NAMED)
    told = boot("seen", spec, relay_url="http://127.0.0.1:1", relay_token="the-relays-own")
    assert channel_address("output", told).token == "the-relays-own"
    assert channel_address(ELSEWHERE, told).token == TOKEN
    assert channel_address(ELSEWHERE, boot("seen", Recorder(channel=ELSEWHERE, file="seen.mp4"))).token is None


def test_a_url_that_somebody_named_is_judged_and_one_of_the_topology_is_not() -> None:
    assert channel_address(ELSEWHERE, ingress()).judge is None
    told = msgspec.structs.replace(ingress(), allow_private=False)
    judge = channel_address(ELSEWHERE, told).judge
    assert judge is not None
    assert "api.allow_private" in judge("10.0.0.1")
    assert judge("8.8.8.8") == ""


@pytest.mark.parametrize("value", [None, "", "two words"])
def test_a_token_that_the_environment_does_not_have_refuses_the_stage(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(WorkerRefused, match=rf"^stages\.in\.source\.token: \$\{{{VARIABLE}\}}: set this environment"):
        channel_address(ELSEWHERE, ingress(token=NAMED))


def test_files_that_are_gone_since_the_check_refuse_the_stage(tmp_path: Path) -> None:
    made = make_identity(tmp_path, "us")
    tls = ClientTls(ca=made.certificate, certificate=made.certificate, key=made.key)
    assert channel_address(ELSEWHERE, ingress(tls=tls)).ssl_context is not None
    Path(made.key).unlink()
    with pytest.raises(WorkerRefused, match=r"^stages\.in\.source\.tls\.key: .*us\.key: No such file or directory"):
        channel_address(ELSEWHERE, ingress(tls=tls))


def test_what_is_printed_of_an_address_has_no_token_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)
    address = channel_address(ELSEWHERE, ingress(token=NAMED))
    assert address.token == TOKEN
    assert TOKEN not in f"{address} {address!r}"


def test_a_refusal_names_the_key_and_what_to_give() -> None:
    denied = AccessDenied("GET https://server.example/live/out/0: status 401")
    without = str(ChannelAddress(ELSEWHERE, token_key="stages.in.source.token").refusal(denied))
    assert without.startswith("stages.in.source.token: GET https://server.example/live/out/0: status 401; give a token")
    assert "give another token" in str(ChannelAddress(ELSEWHERE, TOKEN, None, "stages.in.source.token").refusal(denied))
