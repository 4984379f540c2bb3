"""Writes docs/topology.md: every section of a topology file with its keys, their types, defaults and allowed values,
and what the code says of them. The Structs are the schema, so the page says what holds. Run by `make reference`."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as schema

from pipeline.topology import Topology

PAGE = Path(__file__).parent / "topology.md"

HEAD = """\
# Topology reference

Every key of a topology file. `livepipe check FILE` prints a file with all of its defaults, or says in one line what is
wrong with it: the file, the line, the path and what is allowed. What no single key can say, such as that the stages
make one chain, is checked too.

This page is made from the code by `make reference`; it is not edited by hand.
"""

NAMED = "NAME"
"""Stands in a path for the name of a stage or a link."""

Paths = dict[type, list[str]]
"""The paths at which a section can stand."""

UNITS = ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)
ROUND = 64 << 10
"""Multiples of it are numbers of bytes."""


def page() -> str:
    """The whole page, in Markdown."""
    found = sections()
    return "\n".join([HEAD, *(_section(section, found) for section in found)])


def _section(section: type, found: Paths) -> str:
    paths = found[section]
    parts = [f"## {title(section, paths)}", text_of(section), table(section, found)]
    others = [f"`{path}`" for path in paths if path != title(section, paths)]
    if len(paths) > 1:
        parts.insert(1, f"Also at {', '.join(others)}.")
    return "\n\n".join(parts)


def sections() -> Paths:
    """Each Struct that a file can hold; a section comes before those inside of it."""
    found: Paths = {}
    _collect(Topology, "", found)
    return found


def _collect(section: type, path: str, found: Paths) -> None:
    paths = found.setdefault(section, [])
    if path not in paths:  # All kinds of stages have the same one.
        paths.append(path)
    for field in struct(section).fields:
        for inner, step in structs_in(field.type):
            here = ".".join(filter(None, (path, field.encode_name, step)))
            _collect(inner, here, found)


def struct(section: type) -> schema.StructType:
    described = schema.type_info(section)
    assert isinstance(described, schema.StructType)
    return described


def structs_in(described: schema.Type) -> Iterator[tuple[type, str]]:
    """The Structs that a value of this type holds, each with what its path has after the key's."""
    match plain(described):
        case schema.StructType() as inner:
            yield inner.cls, ""
        case schema.UnionType(types=types):
            for option in types:
                yield from structs_in(option)
        case schema.DictType(value_type=value):
            for section, step in structs_in(value):
                yield section, ".".join(filter(None, (NAMED, step)))


def title(section: type, paths: list[str]) -> str:
    """Its path, the shortest that it has; of a stage, its kind."""
    tag = struct(section).tag
    if not paths[0]:
        return "The file"
    return min(paths, key=len) if tag is None else f"worker: {tag}"


def text_of(section: type) -> str:
    text = inspect.getdoc(section) or ""
    return re.sub(r"(?<!`)(\$\{\w+\})(?!`)", r"`\1`", text)


def table(section: type, found: Paths) -> str:
    described = struct(section)
    rows = ["| key | value | default |", "|---|---|---|"]
    if described.tag is not None:
        rows.append(f"| `{described.tag_field}` | `{described.tag}` | needed |")
    for field in described.fields:
        rows.append(f"| `{field.encode_name}` | {value_of(field.type, found)} | {default_of(field)} |")
    return "\n".join(rows) + "\n"


def value_of(described: schema.Type, found: Paths) -> str:
    """Type and allowed values, for people."""
    note = _description(described)
    kind = plain(described)
    match kind:
        case schema.BoolType():
            return "`true`, `false`"
        case schema.IntType():
            return _limited("whole number", kind)
        case schema.FloatType():
            return _limited("number", kind)
        case schema.StrType():
            return note or _length("text", kind)
        case schema.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case schema.NoneType():
            return "nothing"
        case schema.AnyType():
            return "anything"
        case schema.StructType() as inner:
            heading = title(inner.cls, found[inner.cls])
            return f"[{heading}](#{anchor(heading)})"
        case schema.DictType(value_type=value):
            return f"map of names: {value_of(value, found)}"
        case schema.VarTupleType(item_type=item):
            return f"list, each: {value_of(item, found)}"
        case schema.UnionType(types=types):
            options = [value_of(option, found) for option in types if not isinstance(plain(option), schema.NoneType)]
            return " or ".join(options)
    raise TypeError(f"no words for {kind}")


def default_of(field: schema.Field) -> str:
    if field.required:
        return "needed"
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if value is None:
        return "none"
    if isinstance(value, msgspec.Struct):
        return "its defaults"
    if value == "":
        return "empty"
    shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return f"`{shown.removesuffix('.0')}`{_unit(value)}"


def _number(value: float) -> str:
    shown = str(int(value)) if float(value).is_integer() else str(value)
    return shown + _unit(value)


def _unit(value: Any) -> str:
    """What a number of bytes is in units that people read."""
    if not isinstance(value, int) or not value or value % ROUND:
        return ""
    unit, size = next((unit, size) for unit, size in UNITS if value % size == 0)
    return f" ({value // size} {unit})"


def plain(described: schema.Type) -> schema.Type:
    """Without the notes that are for people."""
    return described.type if isinstance(described, schema.Metadata) else described


def _description(described: schema.Type) -> str:
    notes = described.extra_json_schema or {} if isinstance(described, schema.Metadata) else {}
    return str(notes.get("description", ""))


def _limited(noun: str, kind: schema.IntType | schema.FloatType) -> str:
    limits = [
        f"{sign} {_number(limit)}"
        for sign, limit in (("≥", kind.ge), (">", kind.gt), ("≤", kind.le), ("<", kind.lt))
        if limit is not None
    ]
    if kind.multiple_of is not None:
        limits.append(f"a multiple of {kind.multiple_of}")
    return ", ".join([noun, *limits])


def _length(noun: str, kind: schema.StrType) -> str:
    if kind.max_length is None:
        return noun
    return f"{noun}, {kind.min_length or 0} to {kind.max_length} characters"


def anchor(heading: str) -> str:
    """As GitHub and the site make them."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(page())
