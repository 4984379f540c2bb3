"""The way of single frames, asked for over HTTP."""

import msgspec

from pipeline.status import FrameTrace, Hop, HopTimes, Traces
from tests.api.conftest import Service

TRACE = FrameTrace("a", 2, 60, 180_000, "late", 1.5, 3.0, [Hop("wait_decode", 0.0, 1.0), Hop("decode", 1.0, 2.0)])
TRACES = Traces(30, [TRACE], [HopTimes("decode", 1, 2.0, 2.0), HopTimes("process", 0, None, None)])


async def test_what_the_launcher_tells_of_traced_frames_is_answered_as_it_is(service: Service) -> None:
    service.launcher.traces = TRACES
    status, answer = await service.get("/traces")
    assert (status, msgspec.convert(answer, Traces)) == (200, TRACES)


async def test_the_document_says_what_a_trace_holds(service: Service) -> None:
    _, document = await service.get("/openapi.json")
    content = document["paths"]["/traces"]["get"]["responses"]["200"]["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/Traces"}
    assert document["components"]["schemas"]["FrameTrace"]["properties"].keys() == set(FrameTrace.__struct_fields__)
