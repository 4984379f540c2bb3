"""Which files a workflow may name: those in the engine's own folders. Pure functions; where they are is not asked.

ComfyUI joins what a node is given to a folder and opens the result. LoadImage does so with an absolute path, and with
one that climbs out of the folder, and a workflow comes from whoever may change the processor.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

ALLOWED = "a name in the folder that the node reads, such as picture.png or styles/picture.png"

# folder_paths.annotated_filepath of ComfyUI: the picture is in another folder than input/.
_ANNOTATED = re.compile(r"\[(output|temp)\]\s*$")
_ABSOLUTE = re.compile(r"[/\\~]|[A-Za-z]:[/\\]|file:", re.I)
_SEPARATOR = re.compile(r"[/\\]")

_TEXT_INPUTS = frozenset({"text", "text_g", "text_l", "prompt", "positive", "negative", "string", "value"})
"""Inputs for people's words. A slash at the beginning of a sentence is no path."""


def problem_of(name: str, value: Any) -> str:
    """Why an input with this value names a file outside; empty when it names none. Lists and maps are looked into."""
    return next((problem for text in _texts(value) if (problem := _problem(name, text))), "")


def _problem(name: str, text: str) -> str:
    if "\0" in text:
        return "holds a NUL, which no file name has"
    if ".." in map(str.strip, _SEPARATOR.split(_ANNOTATED.sub("", text).strip())):
        return "leads out of the folder"
    if name in _TEXT_INPUTS and len(text.split()) != 1:
        return ""
    if _ABSOLUTE.match(text.strip()):
        return "is an absolute path"
    if name not in _TEXT_INPUTS and (found := _ANNOTATED.search(text)):
        return f"is in the folder {found[1]}, where others' pictures are"
    return ""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
