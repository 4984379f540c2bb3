"""What the site needs beyond the pages as GitHub shows them: files outside of docs/ that pages link to, the program
that draws the diagrams, and a menu of the pages that are there. mkdocs calls it."""

import os.path
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent

TREE = "tree"
"""Where files outside of docs/ are on the site."""

MERMAID = Path(sys.prefix) / "package/dist/mermaid.tiny.js"
"""`make docs` puts it there."""

MERMAID_URI = "assets/mermaid.js"

LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)\s]*)?\))")
"""To another file of this repository; not to elsewhere, and not within the page."""


LOADED = re.compile(r"<(?:script|img|iframe|link rel=.?stylesheet)[^>]* (?:src|href)=.?https?://[^>]*>")
"""What a browser would fetch from elsewhere."""


def on_config(config: Any) -> Any:
    config.nav = _existing(config.nav)
    return config


def on_files(files: Files, config: Any) -> Files:
    if not MERMAID.exists():
        raise PluginError(f"{MERMAID} is missing, which draws the diagrams; run: make docs")
    files.append(File.generated(config, MERMAID_URI, abs_src_path=str(MERMAID)))
    pages = [f"docs/{file.src_uri}" for file in files.documentation_pages()]
    for path in _linked_outside(pages):
        files.append(File.generated(config, _site_uri(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links as they are on GitHub become those of the site."""
    uri = page.file.src_uri
    here = os.path.dirname(uri)
    source = uri.removeprefix(f"{TREE}/") if uri.startswith(f"{TREE}/") else f"docs/{uri}"

    def moved(link: re.Match[str]) -> str:
        target = os.path.relpath(_site_uri(_target(source, link[2])), here or ".")
        return f"{link[1]}{target}{link[3]}"

    return LINK.sub(moved, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """With the program before the theme's own script looks for it, which else fetches one."""
    if 'class="mermaid"' not in html:
        return html
    up = os.path.relpath(MERMAID_URI, os.path.dirname(page.file.dest_uri) or ".")
    return f'{html}\n<script src="{up}"></script>'


def on_post_page(output: str, page: Any, config: Any) -> str:
    """The site loads nothing from elsewhere."""
    if found := LOADED.search(output):
        raise PluginError(f"{page.file.src_uri}: loads {found[0]}")
    return output


def _existing(nav: list[Any]) -> list[Any]:
    """The entries whose page is there, and the sections that have any."""
    kept = []
    for entry in nav:
        ((title, what),) = entry.items()
        if isinstance(what, list):
            what = _existing(what)
        elif not (ROOT / "docs" / what).exists():
            continue
        if what:
            kept.append({title: what})
    return kept


def _linked_outside(pages: list[str]) -> list[str]:
    """Files outside of docs/ that these pages link to, or pages that these link to."""
    found: dict[str, None] = {}
    waiting = list(pages)
    while waiting:
        page = waiting.pop()
        if not page.endswith(".md"):
            continue
        for _, link, _ in LINK.findall((ROOT / page).read_text()):
            path = _target(page, link)
            if not path.startswith("docs/") and path not in found and (ROOT / path).is_file():
                found[path] = None
                waiting.append(path)
    return list(found)


def _target(page: str, link: str) -> str:
    """The path in the repository that a link of this page leads to."""
    return os.path.normpath(PurePosixPath(page).parent / link)


def _site_uri(path: str) -> str:
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{TREE}/{path}"
