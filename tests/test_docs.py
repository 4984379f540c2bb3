"""The documentation held against itself and the code: links and anchors, the pages that are made, the keys and exit
codes that must be in them."""

import re
from pathlib import Path

import pytest

import launcher
from docs import rest_reference, topology_reference
from pipeline.topology import Stage, Topology
from pipeline.topology_values import Section
from pipeline.worker import EXIT_REFUSED

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("benchmarks/**/*.md")]

FENCE = re.compile(r"^```.*?^```", re.M | re.S)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub and the site make them."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(page)):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        assert slug not in found, f"{page.name} has two headings {heading!r}, and so two different anchors on the site"
        found.add(slug)
    return found


def dead_links(page: Path) -> list[str]:
    dead = []
    for link in LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert dead_links(page) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One, two\n[a](#one-two) [b](#three) [c](gone.md) [d](page.md#one-two) [e](page.md#four)\n")
    assert dead_links(page) == ["#three", "gone.md", "page.md#four"]


def test_every_page_is_in_the_menu() -> None:
    menu = set(re.findall(r"^\s+- .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    assert {page.name for page in DOCS.glob("*.md")} <= menu


@pytest.mark.parametrize("module", [topology_reference, rest_reference], ids=["topology", "rest"])
def test_the_references_are_those_of_the_code(module) -> None:  # type: ignore[no-untyped-def]
    assert module.PAGE.read_text() == module.page(), "the code has changed: run make reference"


def all_sections(kind: type = Section) -> set[type]:
    return {kind, *(inner for each in kind.__subclasses__() for inner in all_sections(each))}


def test_the_topology_reference_has_every_key_of_every_section() -> None:
    made = topology_reference.sections()
    assert made.keys() == all_sections() - {Section, Stage}
    parts = topology_reference.page().split("\n## ")[1:]
    by_title = {part.splitlines()[0]: part for part in parts}
    assert len(by_title) == len(parts)
    for section, paths in made.items():
        part = by_title[topology_reference.title(section, paths)]
        keys = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", part, re.M)
        tag = section.__struct_config__.tag_field
        assert keys == [*([tag] if tag else []), *section.__struct_fields__]


def test_the_topology_reference_says_types_limits_and_defaults() -> None:
    page = topology_reference.page()
    assert "| `slots` | whole number, ≥ 2, ≤ 64 | `6` |" in page
    assert "| `policy` | `block`, `latest` | `block` |" in page
    assert "| `buffer_bytes` | whole number, ≥ 65536 (64 KiB), ≤ 1073741824 (1 GiB) | `16777216` (16 MiB) |" in page
    assert "| `processor` | [stages.NAME.processor](#stagesnameprocessor) | needed |" in page
    assert (Topology.__doc__ or "").strip() in page


def test_the_rest_reference_has_every_path() -> None:
    page = rest_reference.page()
    assert all(f"`{path}`" in page or f" {path}\n" in page for path in rest_reference.openapi()["paths"])


def test_the_operations_guide_has_every_exit_code() -> None:
    codes = {value for name, value in vars(launcher).items() if name.startswith("EXIT_")} | {EXIT_REFUSED}
    guide = (DOCS / "operations.md").read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    assert codes <= {int(number) for number in re.findall(r"\b\d+\b", guide)}
