"""Writes docs/rest.md: every path of the REST service, what is sent and what is answered, from the OpenAPI document
that the service itself gives at /openapi.json. Run by `make reference`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.api.app import Api
from pipeline.api.launcher_line import LauncherLine
from pipeline.api.openapi import document
from pipeline.api.stream_session import Channels
from pipeline.api.urls import UrlRules
from pipeline.topology_sections import Api as Section

PAGE = Path(__file__).parent / "rest.md"

HEAD = """\
# REST reference

Every path of the REST service, from the document that it gives at `/openapi.json` (OpenAPI 3.1). [The REST
service](api.md) says how they are used. With `api.tokens` every path needs a bearer token but those that are marked
open.

This page is made from the code by `make reference`; it is not edited by hand.
"""

SAME = "The same as "
NO_LAUNCHER = "ipc://none"
"""Nobody is asked: what the service answers is known without."""

REFUSAL = "#/components/schemas/Problem"

Schema = dict[str, Any]
Operation = tuple[str, str, dict[str, Any], list[str]]


def page() -> str:
    """The whole page, in Markdown."""
    described = openapi()
    schemas = described["components"]["schemas"]
    asked = list(operations(described))
    paths = [_path(*operation) for operation in asked]
    fields = [_schema(schema) for schema in schemas.values()]
    return "\n".join([HEAD, "## Paths\n", *paths, _refusals(asked), "## What is sent and answered\n", *fields])


def openapi() -> dict[str, Any]:
    line = LauncherLine(NO_LAUNCHER)
    try:
        rules = UrlRules((), private=True, has_relay=True)
        routes = Api(line, Section(), Channels(rules, None, None), "").routes
    finally:
        line.close()
    found: dict[str, Any] = json.loads(document(routes, "", with_tokens=False))
    return found


def operations(described: dict[str, Any]) -> Iterator[Operation]:
    """Method, path, the operation, and the other paths that do the same."""
    known = [(path, method, each) for path, methods in described["paths"].items() for method, each in methods.items()]
    for path, method, operation in known:
        if operation["summary"].startswith(SAME):
            continue
        others = [other for other, _, each in known if each["summary"] == f"{SAME}{path}"]
        yield method.upper(), path, operation, others


def _path(method: str, path: str, operation: dict[str, Any], others: list[str]) -> str:
    is_open = " Open." if operation.get("security") == [] else ""
    lines = [f"### {method} {path}", "", f"{operation['summary']}.{is_open}", ""]
    if others:
        lines += [f"Also at {', '.join(f'`{other}`' for other in others)}.", ""]
    if "requestBody" in operation:
        lines += [f"Takes {_type(_content(operation['requestBody']))}.", ""]
    refusals = [status for status, response in operation["responses"].items() if _is_refusal(response)]
    for status, response in operation["responses"].items():
        if not _is_refusal(response):
            lines.append(f"- {status}: {_answer(response)}")
    lines.append(f"- [Refusals](#refusals): {', '.join(refusals)}")
    return "\n".join([*lines, ""])


def _refusals(asked: list[Operation]) -> str:
    meanings = {
        status: response["description"]
        for _, _, operation, _ in asked
        for status, response in operation["responses"].items()
        if _is_refusal(response)
    }
    rows = [f"| {status} | {meaning} |" for status, meaning in sorted(meanings.items())]
    head = ["## Refusals", "", "All are a [Problem](#problem).", "", "| status | means |", "|---|---|"]
    return "\n".join([*head, *rows, ""])


def _is_refusal(response: dict[str, Any]) -> bool:
    return _content(response).get("$ref") == REFUSAL


def _answer(response: dict[str, Any]) -> str:
    (kind,) = response["content"]
    return _type(_content(response)) if kind == "application/json" else f"`{kind}`"


def _content(holder: dict[str, Any]) -> Schema:
    (content,) = holder["content"].values()
    schema: Schema = content["schema"]
    return schema


def _schema(schema: Schema) -> str:
    lines = [f"### {schema['title']}", ""]
    if "description" in schema:
        lines += [re.sub(r"\n +", "\n", schema["description"]), ""]
    lines += ["| field | type | default |", "|---|---|---|"]
    for name, field in schema["properties"].items():
        default = "needed" if name in schema["required"] else _default(field)
        lines.append(f"| `{name}` | {_type(field)} | {default} |")
    return "\n".join([*lines, ""])


def _default(field: Schema) -> str:
    value = field.get("default")
    return "none" if value in (None, "") else f"`{json.dumps(value)}`"


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "prefixItems" in schema:
        return f"array: {', '.join(map(_type, schema['prefixItems']))}"
    if isinstance(schema.get("items"), dict):
        return f"array of {_type(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(schema.get("type", "anything"))


if __name__ == "__main__":
    PAGE.write_text(page())
