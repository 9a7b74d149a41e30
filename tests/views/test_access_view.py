"""The table of who can read what: what it says, and that its buttons really read."""

from __future__ import annotations

import json

from labkit import vault, views
from labkit.access import ALLOWED, DENIED, IDENTITIES, THINGS, Verdict
from labkit.lab import Lab
from labkit.views.access import Access, state_of

ESO, KEY = IDENTITIES[0], THINGS[0]


def press(view: Access, **message: object) -> dict[str, object]:
    """What the browser's ``model.send`` does; the view's answer."""
    answers: list[dict[str, object]] = []
    view.send = answers.append  # type: ignore[method-assign, assignment]
    view._asked(None, message, None)
    return answers[-1]


def test_text_and_html_say_the_same_words() -> None:
    tried = {
        (ESO, KEY): (Verdict(ALLOWED, "because of <this>"), 1.0),
        (ESO, THINGS[1]): (Verdict(DENIED, "because of that"), 2.0),
    }
    view = Access(state_of(IDENTITIES[:1], THINGS, tried))
    text, page = view.as_text(), view.as_html()
    assert "2 of 4 reads tried: 1 allowed, 1 denied" in text
    assert "Allowed    secret/data/mysql_credentials  because of <this>" in text
    assert "Not tried  demo/mysql-credentials" in text
    assert "because of &lt;this&gt;" in page
    assert page.count('scope="col"') == len(THINGS)
    assert '<th scope="row">' in page


def test_a_cell_is_one_read_and_all_are_all(lab: Lab) -> None:
    view = views.access(lab)
    assert view.state["cells"] == {}
    assert press(view, do="try", row=0, column=0) == {"did": "try", "row": 0, "column": 0}
    assert {key: cell["word"] for key, cell in view.state["cells"].items()} == {"0-0": "Allowed"}
    press(view, do="try-all")
    assert len(view.state["cells"]) == len(IDENTITIES) * len(THINGS)
    values = vault.read(lab.vault) or {}
    assert not any(value in json.dumps(view.state) for value in values.values())
    press(view, do="forget")
    assert view.state["cells"] == {}


def test_it_can_be_filled_without_a_browser(lab: Lab) -> None:
    shown = views.access(lab, identities=IDENTITIES[:2], things=THINGS[:1], fill=True)
    again = views.access(lab, identities=IDENTITIES[:2], things=THINGS[:1], fill=True)
    assert "2 of 2 reads tried: 1 allowed, 1 denied" in str(shown)
    assert str(shown) == str(again)
