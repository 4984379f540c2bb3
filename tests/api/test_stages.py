"""The plan of the pipeline, and the restart of a stage, over REST."""

from tests.api.conftest import Service


async def test_the_plan_says_what_there_is_and_no_secret(service: Service) -> None:
    service.launcher.on_request = False
    service.launcher.channels = {"ingress": "https://user:secret@there/in?key=1", "egress": "output"}
    status, plan = await service.get("/plan")
    assert status == 200
    assert [stage["stage"] for stage in plan["stages"]] == ["ingress", "decode", "inference", "egress"]
    assert plan["stages"][0]["reads"] == "https://***@there/in?***"
    assert (plan["stages"][1]["input"], plan["stages"][1]["output"]) == ("encoded", "raw")
    assert plan["parameters"][0]["name"] == "strength"


async def test_a_stage_is_started_again(service: Service) -> None:
    status, answer = await service.post("/stages/inference/restart")
    assert (status, answer["message"]) == (200, "inference is started again")
    assert service.launcher.restarted == ["inference"]


async def test_what_is_no_stage_is_told_with_those_there_are(service: Service) -> None:
    status, answer = await service.post("/stages/nobody/restart")
    assert (status, answer["code"]) == (404, "unknown")
    assert answer["allowed"] == "ingress, decode, inference, egress"
    assert service.launcher.restarted == []


async def test_a_stage_at_its_end_is_refused_with_the_launchers_words(service: Service) -> None:
    service.launcher.inference = "FINISHED"
    status, answer = await service.post("/stages/inference/restart")
    assert (status, answer["error"]) == (409, "inference is not started again")
    assert (await service.post("/stages/inference/restart", headers={"Origin": "https://evil.example"}))[0] == 403
