"""The OpenAPI 3.1 document of the service, made from its routes and from the Structs that they read and write."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from pipeline.api.problems import Problem
from pipeline.api.route import Route

PROBLEMS = {
    400: "A mistake in the request",
    401: "A token is needed, or this one is not known",
    403: "A page of another site asks, or where this leads is not allowed",
    404: "There is nothing of this name",
    408: "The body did not come in time",
    409: "Something else stands in the way: another stream has this id, or the stage is at its end",
    413: "The body is too long",
    415: "The body is not JSON",
    422: "The processor refuses it",
    426: "This is for WebSockets",
    429: "Too many requests: Retry-After says when",
    503: "Not now: the launcher is silent, the processor still loads, or as many streams run as may",
}

_REF = "#/components/schemas/{name}"
_PLACE = re.compile(r"\{(\w+)\}")


def document(routes: Iterable[Route], version: str, *, with_tokens: bool) -> bytes:
    """JSON."""
    routes = list(routes)
    types = list(dict.fromkeys([Problem, *filter(None, (type_ for r in routes for type_ in (r.body, r.answer)))]))
    references, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = dict(zip(types, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.template, {})[route.method.lower()] = _operation(route, schema_of)
    components: dict[str, Any] = {"schemas": schemas}
    whole: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "livepipe", "version": version, "description": "Real-time video through a processor"},
        "paths": paths,
        "components": components,
    }
    if with_tokens:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        whole["security"] = [{"token": []}]
    return msgspec.json.encode(whole)


def _operation(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    name = re.sub(r"\W+", "_", f"{route.method.lower()}{route.template}").strip("_")
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": route.summary,
        "responses": {
            **{str(status): _answer(route, status, schema_of) for status in route.statuses},
            **{str(status): _problem(status, schema_of) for status in route.problems},
        },
    }
    places = _PLACE.findall(route.template)
    if places:
        operation["parameters"] = [
            {"name": place, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for place in places
        ]
    if route.method == "POST":
        schema = schema_of[route.body] if route.body is not None else {"type": "object"}
        operation["requestBody"] = {"required": False, "content": {"application/json": {"schema": schema}}}
    if route.is_open:
        operation["security"] = []
    return operation


def _answer(route: Route, status: int, schema_of: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    schema = schema_of[route.answer] if route.answer is not None else {}
    described["content"] = {route.content_type: {"schema": schema}}
    return described


def _problem(status: int, schema_of: dict[Any, Any]) -> dict[str, Any]:
    return {"description": PROBLEMS[status], "content": {"application/json": {"schema": schema_of[Problem]}}}
