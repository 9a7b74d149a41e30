"""What the site says that no file says: a Sphinx extension that fills in the marked places.

A page holds a line such as ``<!-- here: lessons -->`` where something stands that is known
elsewhere: the course, the command line, the messages in the code.  It is written when the
page is read, so nothing has to be kept up to date by hand, and a reader of the Markdown
alone sees no more than a gap.  Where pages stand beside each other is ``conf.py``'s; what
becomes of a notebook is ``notebooks``'.

These modules belong to the build alone: nothing of the package imports them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import commands, course, fixtures, messages, navigation, notebooks, readme

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MARK = re.compile(r"^<!-- here: (?P<words>[^>]+?) -->$", re.MULTILINE)

MADE: dict[str, Callable[..., str]] = {
    "lessons": course.lessons,
    "lesson": course.for_the_teacher,
    "run-sheet": course.run_sheet,
    "commands": commands.every,
    "messages": messages.table_of_all,
    "fixtures": fixtures.listed,
    "readme": readme.section,
}
"""What may stand after ``here:``, and who writes it; further words are its arguments."""


def fill_in(text: str) -> str:
    """A page's Markdown with every marked place written.  Raises KeyError for an unknown one."""

    def written(found: re.Match[str]) -> str:
        name, *words = found["words"].split(" ", 1)
        return MADE[name](*words)

    return MARK.sub(written, text)


def _read(app: Sphinx, page: str, source: list[str]) -> None:
    if page.startswith("notebooks/"):
        source[0] = notebooks.for_the_site(source[0], page)
    else:
        source[0] = fill_in(source[0])
    if page == app.config.root_doc:
        source[0] += navigation.toctrees(app.env.found_docs)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx asks for this."""
    app.connect("source-read", _read)
    app.connect("doctree-read", notebooks.colour_shells)
    app.connect("build-finished", navigation.enter_by_index)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
