"""The `logs` section of a topology: what is logged, in what form, and where to besides standard error."""

from typing import Annotated, Literal

import msgspec

from pipeline.topology_values import Bytes, Name, Section

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

Form = Literal["console", "json"]


class LogFile(Section, kw_only=True, frozen=True):
    """Everything that is logged goes into the file `path` as well. Before it would be longer than `max_bytes` it
    becomes `path`.1, which becomes `path`.2 and so on; `keep` of the old ones are kept."""

    path: Annotated[str, msgspec.Meta(min_length=1)]
    format: Form = "json"
    max_bytes: Bytes = 16 << 20
    keep: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5


class Logs(Section, kw_only=True, frozen=True):
    """Events go to standard error: `console` is for people, `json` is one object a line. `level` is the lowest that
    is logged, `stages` names stages as the file does (relay, api, otel and launcher too) for which it is another one;
    it holds for what they report and print, and for what the launcher says of them. `file` takes them too."""

    format: Form = "console"
    level: Level = "INFO"
    stages: dict[Name, Level] = msgspec.field(default_factory=dict)
    file: LogFile | None = None

    def level_of(self, stage: str) -> Level:
        """The lowest level that is logged of `stage`, such as decode.2, which the file calls decode."""
        return self.stages.get(stage.partition(".")[0], self.level)
