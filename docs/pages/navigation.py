"""Which page stands where in the sidebar, and the site's front door.

The front page is README.md, which is also read where there is no site: what is for the
site alone is put behind it here.  A page that nobody has named below is listed all the
same, so that a new file in ``docs/`` needs no second edit.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SIDEBAR: dict[str, tuple[str, ...]] = {
    "Learn": ("docs/lessons",),
    "Teach": ("docs/teaching",),
    "Wherever you are": (),  # whatever else there is in docs/
    "Help": ("docs/troubleshooting", "docs/messages"),
    "Reference": ("docs/cli", "docs/api"),
    "Design": ("ARCHITECTURE", "docs/conformance", "CONTRIBUTING"),
}
_REST = "Wherever you are"


def toctrees(pages: Iterable[str]) -> str:
    """The sidebar's parts, as what MyST reads; hidden on the page itself."""
    named = {page for group in SIDEBAR.values() for page in group}
    rest = sorted(page for page in pages if page.startswith("docs/") and page not in named)
    parts = []
    for caption, group in {**SIDEBAR, _REST: tuple(rest)}.items():
        if group:
            listed = "\n".join(f"/{page}" for page in group)
            parts.append(f"```{{toctree}}\n:caption: {caption}\n:hidden:\n\n{listed}\n```")
    return "\n\n" + "\n\n".join(parts) + "\n"


def enter_by_index(app: Sphinx, problem: Exception | None) -> None:
    """Whoever asks a web server for the folder gets the front page."""
    front = Path(app.outdir) / f"{app.config.root_doc}.html"
    if problem is None and front.exists():
        shutil.copyfile(front, front.with_name("index.html"))
