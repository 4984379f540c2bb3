"""Reads a topology file. Every mistake becomes one line: file, line number, path, what is wrong, what is allowed."""

import copy
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import yaml

from pipeline.shipped import shipped_names
from pipeline.topology import AnyStage, Stage, Topology
from pipeline.topology_graph import check_graph
from pipeline.topology_values import Name, TopologyError

HIDDEN = "(hidden)"

_TOKEN_KEYS = ("token", "tokens", "publish_tokens", "subscribe_tokens")

_AT = re.compile(r"^(?P<problem>.*) - at (?P<kind>`key` in )?`\$(?P<path>[^`]*)`$", re.S)
_FIELD = re.compile(r"unknown field `(?P<field>[^`]+)`")
_MISSING = re.compile(r"missing required field `(?P<field>[^`]+)`")
_REGEX = re.compile(r"^Expected `str` matching regex .*$", re.S)


class TopologyFileError(Exception):
    """The one line for the user: `FILE:LINE: PATH: PROBLEM`."""


def load_topology(path: Path, overrides: dict[str, Any] | None = None) -> Topology:
    """Read, override and check a topology. `overrides` maps dotted paths to values that replace the file's.

    Raises TopologyFileError for whatever is wrong with the file or with an override.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise TopologyFileError(f"{path}: {reason}; give a file, or one of {', '.join(shipped_names())}") from error
    root, raw = _parse(path, text)
    return _convert(str(path), root, raw, overrides)


def topology_from(raw: dict[str, Any], where: str, overrides: Mapping[str, Any] | None = None) -> Topology:
    """Override and check a topology that is no file but plain values; `where` names it in errors. `raw` is not changed.

    Raises TopologyFileError.
    """
    return _convert(where, None, copy.deepcopy(raw), overrides)


def forget_unknown(raw: dict[str, Any]) -> list[str]:
    """Take the keys out of `raw` that no section has, as another version's may. Returns their dotted paths."""
    forgotten = []
    while (keys := _first_unknown(raw)) is not None:
        section = raw
        for key in keys[:-1]:
            section = section[key]
        del section[keys[-1]]
        forgotten.append(_dotted(keys))
    return forgotten


def parse_override(text: str) -> tuple[str, Any]:
    """`PATH=VALUE` of the command line, for `load_topology`. Raises TopologyFileError."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise TopologyFileError(f"--set {text}: needed is PATH=VALUE, such as relay.port=0")
    try:
        return path, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise TopologyFileError(f"--set {text}: {value!r} is not a YAML value") from error


def without_secrets(topology: Topology) -> Any:
    """The topology as plain values, to be shown: a token that stands in the file itself is not."""
    return _hide_tokens(msgspec.to_builtins(topology))


def _first_unknown(raw: dict[str, Any]) -> tuple[str, ...] | None:
    try:
        msgspec.convert(raw, Topology)
    except msgspec.ValidationError as error:
        keys, _ = _explain(str(error), raw)
        return keys if _FIELD.search(str(error)) and keys[-1] in _section_at(raw, keys[:-1]) else None
    return None


def _section_at(raw: Any, keys: tuple[str, ...]) -> Any:
    """Empty where there is none: a list is no section."""
    for key in keys:
        raw = raw.get(key, {}) if isinstance(raw, dict) else {}
    return raw if isinstance(raw, dict) else {}


def _convert(where: str, root: yaml.Node | None, raw: Any, overrides: Mapping[str, Any] | None) -> Topology:
    if not isinstance(raw, dict):
        raise TopologyFileError(f"{where}:1: a topology is a mapping with the keys {', '.join(_allowed(()))}")
    for dotted, value in (overrides or {}).items():
        _override(raw, dotted, value)
    try:
        topology = msgspec.convert(raw, Topology)
        check_graph(topology)
    except msgspec.ValidationError as error:
        keys, problem = _explain(str(error), raw)
        raise TopologyFileError(f"{_place(where, root, keys)}: {_dotted(keys)}: {problem}") from error
    except TopologyError as error:
        keys = tuple(error.path.split("."))
        raise TopologyFileError(f"{_place(where, root, keys)}: {error}") from error
    return topology


def _place(where: str, root: yaml.Node | None, keys: tuple[str, ...]) -> str:
    return where if root is None else f"{where}:{_line(root, keys)}"


def _hide_tokens(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _hide_tokens(inner, name) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hide_tokens(inner, key) for inner in value]
    hidden = key in _TOKEN_KEYS and isinstance(value, str) and not value.startswith("${")
    return HIDDEN if hidden else value


def _parse(path: Path, text: str) -> tuple[yaml.Node | None, Any]:
    """The file as nodes, which know their lines, and as values."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _check_keys(path, root)
        return root, yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise TopologyFileError(f"{path}:{line}: not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise TopologyFileError(f"{path}:1: not YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise TopologyFileError(f"{path}:1: nested too deep, or an anchor that holds itself") from error


def _check_keys(path: Path, node: yaml.Node) -> None:
    """A key is plain text, and given once: YAML would keep the last of two in silence."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise TopologyFileError(f"{path}:{line}: a key must be plain text")
            if key.value in seen:
                raise TopologyFileError(f"{path}:{line}: {key.value}: given twice, first on line {seen[key.value]}")
            seen[key.value] = line
            _check_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(path, value)


def _override(raw: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    section = raw
    for key in parents:
        inner = section.setdefault(key, {})
        if not isinstance(inner, dict):
            raise TopologyFileError(f"--set {dotted}: {key} is not a section")
        section = inner
    section[last] = value


def _explain(message: str, raw: Any) -> tuple[tuple[str, ...], str]:
    """Split msgspec's message into the path that it speaks of and a problem with what is allowed there."""
    match = _AT.match(message)
    problem, path = (match["problem"], match["path"]) if match else (message, "")
    keys = _keys(path, raw)
    if match and match["kind"]:
        return keys, f"{_misnamed(keys, raw)!r} is no name; allowed: {_allowed_values(('name',), raw)}"
    if unknown := _FIELD.search(problem):
        allowed = ", ".join(_allowed(keys, raw))
        return (*keys, unknown["field"]), f"unknown key; allowed here: {allowed}"
    if missing := _MISSING.search(problem):
        return keys, f"missing key {missing['field']!r}"
    allowed_here = _allowed_values(keys, raw)
    problem = _REGEX.sub("has another form", problem)
    return keys, problem + (f"; allowed: {allowed_here}" if allowed_here else "")


def _misnamed(keys: tuple[str, ...], raw: Any) -> str:
    """The first key of a section of names that is none."""
    section = raw
    for key in keys:
        section = section[key]
    for name in section:
        try:
            msgspec.convert(name, Name)
        except msgspec.ValidationError:
            return str(name)
    return ""


def _keys(path: str, raw: Any) -> tuple[str, ...]:
    """`.stages[...].codec` -> its keys. msgspec writes `[...]` for a dict's value: the first that fails is meant."""
    keys: list[str] = []
    for part in re.findall(r"\[\.\.\.\]|\[\d+\]|\.[^.\[]+", path):
        keys.append(part.lstrip(".") if part != "[...]" else "*")
    if "*" not in keys:
        return tuple(keys)
    star = keys.index("*")
    section = raw
    for key in keys[:star]:
        section = section[key]
    for name, value in section.items():
        try:
            msgspec.convert(value, _type_at((*keys[:star], name), raw))
        except msgspec.ValidationError:
            return (*keys[:star], str(name), *keys[star + 1 :])
    return tuple(keys[:star])


def _type_at(keys: tuple[str, ...], raw: Any) -> Any:
    """The type that the schema has at `keys`. A stage's type depends on its `worker`."""
    kind: Any = Topology
    value = raw
    for key in keys:
        kind, value = _step(kind, key, value)
        if kind == AnyStage:
            kind = _stage_type(value) or AnyStage
    return kind


def _step(kind: Any, key: str, value: Any) -> tuple[Any, Any]:
    inner = value.get(key) if isinstance(value, dict) else None
    for option in _options(kind):
        if get_origin(option) is dict:
            return get_args(option)[1], inner
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            hints = get_type_hints(option, include_extras=True)
            if key in hints:
                return hints[key], inner
    return Any, inner


def _options(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _stage_type(value: Any) -> type[Stage] | None:
    worker = value.get("worker") if isinstance(value, dict) else None
    for stage in get_args(AnyStage):
        if stage.__struct_config__.tag == worker:
            return stage  # type: ignore[no-any-return]
    return None


def _allowed(keys: tuple[str, ...], raw: Any = None) -> list[str]:
    """The keys that the section at `keys` may have."""
    for option in _options(_type_at(keys, raw)):
        if isinstance(option, type) and issubclass(option, msgspec.Struct):
            tag_field = option.__struct_config__.tag_field
            return [*([tag_field] if tag_field else []), *option.__struct_fields__]
    return []


def _allowed_values(keys: tuple[str, ...], raw: Any) -> str:
    """The values that the schema allows at `keys`, when they can be listed."""
    if keys and keys[-1] == "worker":
        return ", ".join(str(stage.__struct_config__.tag) for stage in get_args(AnyStage))
    for option in _options(_type_at(keys, raw)):
        if get_origin(option) is Literal:
            return ", ".join(map(str, get_args(option)))
        if get_origin(option) is Annotated and (described := option.__metadata__[0].description):
            return str(described)
    return ""


def _dotted(keys: tuple[str, ...]) -> str:
    return ".".join(keys) or "top level"


def _line(root: yaml.Node | None, keys: tuple[str, ...]) -> int:
    """The line of the deepest of `keys` that the file has."""
    line, node = 1, root
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            break
        found = next(((k, v) for k, v in node.value if str(k.value) == key), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line
