"""The application's page in a notebook: where its frame leads, and what it says as text."""

from __future__ import annotations

import json

from labkit import views
from labkit.lab import Lab
from labkit.views.page import MISSING, Page, state_of

SHOWN = {
    "values": {"db_user": "demo_user", "db_password": "••••••••", "more": "<b>"},
    "sources": {
        key: {"path": "/secrets/credentials", "kind": "file", "line": line}
        for line, key in enumerate(("db_user", "db_password", "more"), 1)
    },
    "error": None,
}


def test_the_text_says_each_value_and_where_it_is_from() -> None:
    page = Page(state_of("lab", "http://127.0.0.1:30000", SHOWN))
    text = page.as_text()
    assert "user        demo_user   from the file /secrets/credentials, line 1" in text
    assert "password    ••••••••   from the file /secrets/credentials, line 2" in text
    assert "&lt;b&gt;" in page.as_html()


def test_the_frame_leads_to_this_lab_below_jupyters_own_address() -> None:
    assert state_of("other", "", None)["door"] == "labkit/labs/other/app/"


def test_without_an_application_it_says_so() -> None:
    page = Page(state_of("lab", "", None))
    assert MISSING in page.as_text()
    failed = {"values": {}, "sources": {}, "error": "there is no file /secrets/credentials"}
    assert "Nothing was read yet: there is no file" in Page(state_of("lab", "", failed)).as_text()


def test_a_running_one_is_told_without_its_secret(lab: Lab) -> None:
    page = views.page(lab)
    assert "••••••••" in page.as_text()
    password = lab.app.shows("db_password")
    assert password
    bundle, _ = page._repr_mimebundle_()
    assert password not in json.dumps([page.state, bundle])
