"""Changes of what runs: another workflow or other parameters for the processor, another size for the frames. The same
for the REST service and for control channels."""

from typing import Any, NamedTuple

from pipeline.api.answers import under_way
from pipeline.api.health import waits_for_a_stream
from pipeline.api.launcher_line import LauncherLine
from pipeline.api.params import sort_params
from pipeline.api.problems import ApiError, not_now
from pipeline.messages import Answer
from pipeline.status import Status


class Changed(NamedTuple):
    """`params` are in force now; nothing was done with the `ignored` ones."""

    params: dict[str, Any]
    ignored: list[str]


async def change(line: LauncherLine, given: dict[str, Any], stream: str = "") -> Changed:
    """Have the launcher change the processor's parameters, then the size, of the stream with this id; empty: of all
    that run. Raises ApiError when it cannot be done; what came before stays done, and the error says so. Raises
    LauncherSilent."""
    params = sort_params(given)
    status = await line.status()
    done: dict[str, Any] = {}
    ignored = list(params.ignored)
    if params.processor:
        answer = await line.update(stage_of(status, "inference"), params.processor, stream)
        if not answer.ok:
            raise _refusal(answer, "")
        done |= params.processor
    if params.size is not None and waits_for_a_stream(status):
        ignored += ["width", "height"]  # A size is a stream's, and there is none.
    elif params.size is not None:
        size = dict(zip(("width", "height"), params.size, strict=True))
        for stage in _decoders(status, stream):
            answer = await line.update(stage, size)
            if not answer.ok:
                raise _refusal(answer, "; the other parameters are in force" if done else "")
        done |= size
    return Changed(done, ignored)


def _decoders(status: Status, stream: str) -> list[str]:
    """The stages that decode this stream; empty: any that run, or that of the topology."""
    of = [each for each in under_way(status) if stream in ("", each.spec.stream)]
    names = [stage.stage for stage in status.stages if stage.worker == "decode"]
    return [name for each in of for name in names if name in each.stages] or [stage_of(status, "decode")]


def stage_of(status: Status, worker: str) -> str:
    """The name of the stage whose worker this is. Raises ApiError while there is none."""
    for stage in status.stages:
        if stage.worker == worker:
            return stage.stage
    raise not_now(f"there is no {worker} stage", "loading")


def has_stream(status: Status) -> bool:
    """Whether a stream runs: one on request, or that of the topology."""
    return bool(under_way(status)) or (not waits_for_a_stream(status) and status.state in ("OK", "LOADING"))


def _refusal(answer: Answer, done: str) -> ApiError:
    """What is asked for is wrong, or nobody is there just now to take it."""
    if answer.code == "loading":
        return not_now(f"{answer.text}{done}", "loading")
    return ApiError(422, f"{answer.text}{done}", code="invalid")
