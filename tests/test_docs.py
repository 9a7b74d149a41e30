"""The site as it is built: every page, no link that leads nowhere, nothing from afar.

Links to other people's pages are not followed here (``make docs-links`` does); what our own
files say of each other and of the code is.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
import typer.main

from docs.pages import messages
from labkit import programs
from labkit.cli import app
from labkit.kernel import TOKEN

REPO = Path(__file__).parent.parent
SOURCES = [
    *(REPO / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    *sorted((REPO / "docs").glob("*.md")),
    *sorted((REPO / "notebooks").glob("*.ipynb")),
]
LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}


@dataclass
class Page(HTMLParser):
    """One page's anchors, what it links to and what it loads."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("id", "name"):
                self.anchors.add(value)
            elif value and (tag, name) in LOADS:
                self.loads.append(value)
            elif value and name == "href":
                self.links.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` does: any warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    words = ["--quiet", "-W", "--keep-going", "--nitpicky", "-c", "docs"]
    words += ["-d", str(folder / "trees"), ".", str(folder / "html")]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {}
    for file in site.rglob("*.html"):
        found[file] = Page()
        found[file].feed(file.read_text(encoding="utf-8"))
    return found


def test_every_page_is_there(site: Path, pages: dict[Path, Page]) -> None:
    for source in SOURCES:
        page = site / source.relative_to(REPO).with_suffix(".html")
        assert page in pages
        assert "<h1>" in page.read_text(encoding="utf-8")
    assert (site / "index.html").read_bytes() == (site / "README.html").read_bytes()


def test_no_link_leads_nowhere(site: Path, pages: dict[Path, Page]) -> None:
    astray = []
    for file, page in pages.items():
        for link in [*page.links, *page.loads]:
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            path, anchor = urldefrag(link)
            target = (file.parent / unquote(path.partition("?")[0])).resolve() if path else file
            is_known = not anchor or target not in pages or unquote(anchor) in pages[target].anchors
            if not target.is_file() or not is_known:
                astray.append(f"{file.relative_to(site)}: {link}")
    assert not astray


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for file, page in pages.items():
        assert not [each for each in page.loads if urlsplit(each).netloc], file
    for sheet in site.rglob("*.css"):
        told = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')\s]+)", sheet.read_text())
        assert not [each for each in told if urlsplit(each).netloc], sheet


def test_nothing_of_this_machine_and_no_token_is_in_it(site: Path) -> None:
    for file in site.rglob("*"):
        if file.suffix in {".html", ".js", ".txt", ".inv", ".yaml", ".ipynb"}:
            text = file.read_text(encoding="utf-8", errors="replace")
            assert str(REPO) not in text, file
            assert sys.prefix not in text, file
            assert not TOKEN.search(text), file


def test_lessons_show_what_was_stored_and_no_empty_widget(site: Path) -> None:
    for source in sorted((REPO / "notebooks").glob("*.ipynb")):
        html = (site / "notebooks" / source.with_suffix(".html").name).read_text(encoding="utf-8")
        assert "jupyter-widgets" not in html
        assert "widget-view" not in html
        shown = " ".join(unescape(re.sub(r"<[^>]+>", "", html)).split())
        for cell in json.loads(source.read_text())["cells"]:
            for output in cell.get("outputs", []):
                said = re.sub(r"\x1b\[[\d;]*[A-Za-z]", "", "".join(output.get("text", [])))
                assert " ".join(said.split()) in shown, (source.name, said[:80])


def test_links_between_files_lead_to_files() -> None:
    """On GitHub and in JupyterLab, where there is no site, the same links are followed."""
    astray = []
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        if source.suffix == ".ipynb":
            cells = json.loads(text)["cells"]
            text = "\n".join("".join(each["source"]) for each in cells if "outputs" not in each)
        prose = re.sub(r"^```.*?^```|`[^`\n]+`", "", text, flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(<?([^)>\s]+)>?\)", prose):
            path = urldefrag(link)[0]
            if path and not urlsplit(link).scheme and not (source.parent / path).exists():
                astray.append(f"{source.relative_to(REPO)}: {link}")
    assert not astray


def test_words_that_are_quoted_are_really_said() -> None:
    """Each symptom is a heading.  It is said by our own code, by a program, or in a lesson."""
    texts = (REPO / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### `(.+?)`", texts, re.MULTILINE)
    others = [quote for quote in quoted if not messages.is_said(quote)]
    assert len(others) < len(quoted) / 2
    stored = "".join(
        "".join(output.get("text", []))
        for file in (REPO / "notebooks").glob("*.ipynb")
        for cell in json.loads(file.read_text())["cells"]
        for output in cell.get("outputs", [])
    ).encode()
    names = ("kubectl", "external-secrets", "bao", "argocd")
    said = [stored, *(programs.resolve(name).path.read_bytes() for name in names)]
    for quote in others:
        # A name in a message stands between quotes that are not in the program.
        pieces = [piece.strip(' ."') for piece in quote.split(messages.GAP)]
        assert any(all(piece.encode() in text for piece in pieces) for text in said), quote


def test_commands_that_are_named_exist() -> None:
    known: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for source in SOURCES:
        for name in re.findall(r"`labkit ([a-z]+)", source.read_text(encoding="utf-8")):
            assert name in known, (source.name, name)
