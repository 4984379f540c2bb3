"""Parameters of a processor as a form shows them: their kind and range, from what its code declares, or else from the
values themselves. Whether a value is allowed the processor alone decides."""

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from pipeline.status import Parameter

MAX_CHOICES = 500
"""Of one parameter: a folder of models may hold more, and a form with all of them is none."""

Kind = Literal["int", "float", "bool", "text", "choice", "json"]

_KINDS: dict[Any, Kind] = {bool: "bool", int: "int", float: "float", str: "text"}


def inferred(params: Mapping[str, Any]) -> list[Parameter]:
    """By the values alone."""
    return [Parameter(name, kind_of(value), value) for name, value in params.items()]


def kind_of(value: Any) -> Kind:
    return _KINDS.get(type(value), "json")


def declared(name: str, value: Any, hint: Any) -> Parameter:
    """By the type that a signature names: int, float, bool, str, a Literal, or one of them with msgspec.Meta, or None
    beside it."""
    kind, low, high, choices = kind_of(value), None, None, []
    if get_origin(hint) in (Union, types.UnionType):
        left = [each for each in get_args(hint) if each is not type(None)]
        hint = left[0] if len(left) == 1 else Any
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        for meta in (extra for extra in extras if isinstance(extra, msgspec.Meta)):
            low = meta.ge if meta.ge is not None else meta.gt
            high = meta.le if meta.le is not None else meta.lt
    if get_origin(hint) is Literal:
        choices = [choice for choice in get_args(hint) if isinstance(choice, str)]
        kind = "choice" if len(choices) == len(get_args(hint)) else kind
    if value is None or (hint is float and kind == "int"):
        kind = _KINDS.get(hint, kind)
    return Parameter(name, kind, value, min=low, max=high, choices=choices[:MAX_CHOICES])
