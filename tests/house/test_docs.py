"""Pages lead where they say, the site has all of them, and decision records have one shape."""

from __future__ import annotations

import ast
import datetime
import re
import runpy
import tomllib
from pathlib import Path

import grimp
import pytest

import al_charge as ac

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
DECISIONS = ROOT / "docs" / "decisions"
RECORDS = sorted(path for path in DECISIONS.glob("*.md") if path.name != "README.md")
CODE = re.compile(r"^```.*?^```|^    .*?$", re.MULTILINE | re.DOTALL)
AMENDED = r"(?:, amended by (?P<amended>\[\d{4}\]\([\w.-]+\)))?"
STATUS = re.compile(rf"proposed|accepted{AMENDED}|superseded by (?P<by>\[\d{{4}}\]\([\w.-]+\))")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """Return the fragments by which the headings of a page are reached."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {word.replace(" ", "-") for word in words}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", page.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        path, _, fragment = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", [one for one in PAGES if one.name != "CHANGELOG.md"], ids=name)
def test_source_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`((?:\w+/)+\w+\.(?:py|cif|toml))`", page.read_text())
    places = (ROOT, ROOT / "al_charge")
    assert [one for one in named if not any((place / one).exists() for place in places)] == []


WALKS = re.findall(
    r"^\| `([\w.]+)` \| `?([\w. ]+?)`? \|", (ROOT / "docs" / "architecture.md").read_text(), re.M
)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Every import of the package, also inside functions and for types alone."""
    return grimp.build_graph("al_charge", cache_dir=None)


def defined(name: str, modules: set[str]) -> str:
    """Return the module of a function, class or method that is named without the package."""
    words = ["al_charge", *name.split(".")]
    split = max(n for n in range(1, len(words)) if ".".join(words[:n]) in modules)
    module, names = ".".join(words[:split]), words[split:]
    path = ROOT.joinpath(*words[:split])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    body: list[ast.stmt] = ast.parse(file.read_text()).body
    for one in names:
        found = [n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == one]
        assert found, f"{name} is not in {module}"
        body = found[0].body
    return module


def test_walks_follow_imports_and_never_go_up(graph: grimp.ImportGraph) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(one["layers"] for one in contracts["contracts"] if one["type"] == "layers")
    level = {room.strip(): n for n, layer in enumerate(layers) for room in layer.split("|")}
    assert len(WALKS) > 20
    for callee, caller in WALKS:
        module = defined(callee, graph.modules)
        if caller in ("the user", "FireWorks"):
            continue
        source = defined(caller, graph.modules)
        imported = graph.find_modules_directly_imported_by(source)
        assert module == source or module in imported, f"{caller} does not import {callee}"
        rooms = [".".join(one.split(".")[:2]) for one in (source, module)]
        assert level[rooms[0]] <= level[rooms[1]], f"{caller} calls up to {callee}"


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_decision_records_have_one_shape(record: Path) -> None:
    title, rest = record.read_text().split("\n\n- Status: ", 1)
    assert re.fullmatch(rf"# {record.name[:4]}: \S.*[^.]", title)
    status, date, body = rest.split("\n", 2)
    found = STATUS.fullmatch(status)
    assert found, status
    for link in filter(None, found.groups()):
        number, file = re.fullmatch(r"\[(\d{4})\]\((.*)\)", link).groups()  # type: ignore[union-attr]
        assert file.startswith(number) and (DECISIONS / file).exists()
    assert datetime.date.fromisoformat(date.removeprefix("- Date: "))
    parts = re.split(r"^## (.*)$", body, flags=re.MULTILINE)
    assert parts[1::2] == ["Context", "Decision", "Consequences"]
    assert all(part.strip() for part in parts[2::2])


def test_the_index_lists_every_decision() -> None:
    rows = []
    for record in RECORDS:
        text = record.read_text()
        title = text.splitlines()[0].partition(": ")[2]
        status = re.search(r"^- Status: (\w+)", text, re.MULTILINE)
        assert status
        rows.append(f"| [{record.name[:4]}]({record.name}) | {title} | {status.group(1)} |")
    index = (DECISIONS / "README.md").read_text()
    assert re.findall(r"^\| \[.*$", index, re.MULTILINE) == rows


SITE = runpy.run_path(str(ROOT / "docs" / "conf.py"))
REFERENCE = runpy.run_path(str(Path(__file__).with_name("reference.py")))


def test_the_site_has_every_page_once() -> None:
    listed = [
        (ROOT / "docs" / page).parent / f"{path}.md"
        for page in SITE["LISTS"]
        for paths in SITE["contents"]((ROOT / "docs" / f"{page}.md").read_text()).values()
        for path in paths
    ]
    assert sorted(listed) == sorted({*(ROOT / "docs").rglob("*.md")} - {ROOT / "docs" / "index.md"})


def test_pages_that_stand_for_others_are_those_files() -> None:
    for file, page in SITE["ELSEWHERE"].items():
        assert f"```{{include}} ../{file}\n" in (ROOT / "docs" / page).read_text()


def test_links_out_of_the_folder_lead_to_pages_of_the_site() -> None:
    source = ["[a](../CHANGELOG.md) [b](../db/README.md#setting-it-up) [c](../examples/) [d](x.md)"]
    SITE["prepare"](None, "hosts", source)
    assert source == ["[a](changelog.md) [b](server.md#setting-it-up) c [d](x.md)"]


def test_the_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "python-reference.md").read_text()
    named = set(re.findall(r"^\.\. auto\w+:: al_charge\.(\w+)$", text, re.MULTILINE))
    assert named == set(ac.__all__) - {"__version__"} and "`ac.__version__`" in text


@pytest.mark.parametrize(
    ("text", "loaded"),
    [
        ('<link href="https://fonts.example/a.css" rel="stylesheet">', 1),
        ("<script async src='//cdn.example/x.js'></script>", 1),
        ('<img alt="x"\n src="http://a.example/p.png">', 1),
        ("@font-face {src: url(https://fonts.example/a.woff2)}", 1),
        ('@import "https://fonts.example/a.css";', 1),
        ('<a class="x" href="https://ase-lib.org">ASE</a> <img src="_images/hull.png">', 0),
        ('<link href="_static/furo.css"> <svg xmlns="http://www.w3.org/2000/svg">', 0),
    ],
)
def test_what_a_page_would_load_from_elsewhere_is_found(text: str, loaded: int) -> None:
    assert len(SITE["requests"](text)) == loaded


@pytest.mark.parametrize("page", REFERENCE["PAGES"])
def test_pages_made_of_the_code_are_up_to_date(page: str) -> None:
    """Run tests/house/reference.py if this fails."""
    assert (ROOT / "docs" / page).read_text() == REFERENCE["page_of"](page)


def test_quoted_messages_are_those_of_the_code() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "al_charge").rglob("*.py"))
    sources = re.sub(r'"\s*\n\s*(?:\+ )?f?"', "", sources)  # texts of several lines
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(messages) > 30
    missing = [
        message for message in messages if not all(part in sources for part in message.split("..."))
    ]
    assert missing == []
