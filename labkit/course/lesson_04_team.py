"""Lesson 04's other exercises, in a team's namespace: a whole secret at once, and mending."""

from __future__ import annotations

import json
import re

from labkit import vault
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course.lesson_04_looks import (
    events_of,
    is_behind,
    quoted_values,
    secret_data,
    slip,
    sync_of,
)
from labkit.course.model import Exercise, Fault
from labkit.course.script import applied

TEAM = "shop"
SETTINGS_KEY = "shop/settings"
ORDERS_KEY = "shop/orders"
_FILE = "settings.env"
_NAME = re.compile(r"SHOP_[A-Z0-9_]+")


def _lines(scene: Scene) -> dict[str, str]:
    """What stands on both sides of the first = of each line of the team's file."""
    text = (secret_data(scene, scene["settings"], TEAM) or {}).get(_FILE, "")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _is_behind(scene: Scene) -> bool:
    return is_behind(scene, scene["settings"], TEAM, SETTINGS_KEY)


@expects("ESO can make the Secret")
def settings_are_made(scene: Scene) -> Finding:
    expected = f"the ExternalSecret {scene['settings']} is synced, with the key {_FILE}"
    sync = sync_of(scene, scene["settings"], TEAM)
    if sync.state == "synced" and _FILE in (secret_data(scene, scene["settings"], TEAM) or {}):
        return met(expected)
    observed = {
        "missing": f"the namespace {TEAM} has no such ExternalSecret",
        "settling": "ESO is at work",
        "synced": f"it is synced, and its Secret has no key {_FILE}",
        "failed": f"ESO says: {sync.said}",
    }[sync.state]
    hint = ""
    if "does not exist" in sync.said:
        hint = (
            "The policy allows that path, and there is nothing. "
            f"`bao kv list -mount={vault.MOUNT} {TEAM}` shows which secrets there are."
        )
    elif "not defined" in sync.said:
        hint = (
            "There is no function of that name. Functions are written as in upper or toJson: "
            "capitals count."
        )
    return not_yet(
        expected,
        observed,
        next="Fill in the blanks and run the cell."
        if sync.state == "missing"
        else f"Read ESO's whole message: {events_of(scene['settings'], TEAM)}.",
        hint=hint,
        settling=sync.state == "settling",
        blocks=True,
    )


@expects("every field is in the file")
def has_every_field(scene: Scene) -> Finding:
    held = vault.read(scene.vault, key=SETTINGS_KEY) or {}
    expected = f"{_FILE} has a line for each of the {len(held)} fields in Vault"
    lines = _lines(scene)
    if len(lines) == len(held):
        return met(expected)
    return not_yet(
        expected,
        f"it has {len(lines)}",
        next="Take the whole secret, and not one property of it.",
        hint="data: names each property, and a field that somebody adds in Vault is forgotten. "
        "dataFrom: extract: takes whatever the secret has.",
        settling=_is_behind(scene),
    )


@expects("the names are those of environment variables")
def has_names(scene: Scene) -> Finding:
    expected = "each name is like SHOP_CACHE_HOST: capitals, digits and _"
    wrong = sorted(name for name in _lines(scene) if not _NAME.fullmatch(name))
    if not wrong:
        return met(expected)
    return not_yet(
        expected,
        f"there is {wrong[0]}",
        next="Look at the rewrite: it makes the names.",
        hint="A rewrite changes the names before the template sees them. In its own template "
        ".value is the old name: put SHOP_ before it, make it upper case, and replace - by _.",
        settling=_is_behind(scene),
    )


@expects("the values survive")
def has_values(scene: Scene) -> Finding:
    expected = "each value is quoted, so that a quote within it does no harm"
    held = vault.read(scene.vault, key=SETTINGS_KEY) or {}
    lines = _lines(scene)
    try:
        found = sorted(str(json.loads(value)) for value in lines.values())
        is_quoted = all(value.startswith('"') for value in lines.values())
    except ValueError:
        found, is_quoted = [], False
    if is_quoted and (found == sorted(held.values()) or len(lines) != len(held)):
        return met(expected)
    return not_yet(
        expected,
        "a value is not what Vault holds" if is_quoted else "a value is not well quoted",
        next="Let a function quote the values.",
        hint='Quotes around {{ $value }} are not enough: one value has quotes in it: Say "yes". '
        "The function toJson adds quotes and a \\ before those within.",
        settling=_is_behind(scene),
    )


_SETTINGS = applied("04-external-secrets/settings.yaml")
_BY_HAND = """\
  data:
    - secretKey: SHOP_CACHE_HOST
      remoteRef:
        key: shop/settings
        property: cache-host
"""

SETTINGS = Exercise(
    name="settings",
    title="A whole secret as environment variables",
    script=_SETTINGS,
    undo=f"""\
kubectl -n {TEAM} delete externalsecret shop-settings --ignore-not-found
kubectl -n {TEAM} delete secret shop-settings --ignore-not-found
""",
    blanks=(
        "$value | ⟦toJson⟧",
        "- ⟦extract⟧:",
        "'SHOP_{{ .value | ⟦upper⟧ |",
    ),
    expectations=(settings_are_made, has_every_field, has_names, has_values),
    hints=(
        "Three words are missing: a function that quotes, the kind of dataFrom that takes one "
        "whole secret, and a function that you met in the playground.",
        "They are toJson, extract and upper.",
    ),
    faults=(
        Fault(
            "a secret that is not there",
            slip(_SETTINGS, "key: shop/settings", "key: shop/setting"),
            settings_are_made,
            "bao kv list",
        ),
        Fault(
            "one property by hand",
            slip(_SETTINGS, _SETTINGS[_SETTINGS.index("  dataFrom:") : -len("YAML\n")], _BY_HAND),
            has_every_field,
            "extract",
        ),
        Fault(
            "names as they are in Vault",
            slip(_SETTINGS, "SHOP_{{ .value | upper |", "{{ .value |"),
            has_names,
            "upper case",
        ),
        Fault(
            "quotes by hand",
            slip(_SETTINGS, "{{ $value | toJson }}", '"{{ $value }}"'),
            has_values,
            "toJson",
        ),
    ),
)


@expects("its template can be carried out")
def orders_render(scene: Scene) -> Finding:
    expected = f"the ExternalSecret {scene['orders']} is synced"
    sync = sync_of(scene, scene["orders"], TEAM)
    if sync.state == "synced":
        return met(expected)
    observed = {
        "missing": f"the namespace {TEAM} has no such ExternalSecret",
        "settling": "ESO is at work",
        "failed": f"ESO says: {sync.said}",
    }[sync.state]
    hint = ""
    if sync.part == "template":
        hint = (
            "The template asks for a name that nothing has: the names are the secretKeys below "
            "data:. Correct the name; default does not help, since looking it up fails first."
        )
    return not_yet(
        expected,
        observed,
        next=f"Read ESO's whole message: {events_of(scene['orders'], TEAM)}.",
        hint=hint,
        settling=sync.state == "settling",
        blocks=True,
    )


@expects("nothing is empty")
def orders_are_whole(scene: Scene) -> Finding:
    expected = "its file has the user and the password that Vault holds"
    values = quoted_values((secret_data(scene, scene["orders"], TEAM) or {}).get("credentials", ""))
    held = vault.read(scene.vault, key=ORDERS_KEY) or {}
    fields = {"user": "username", "password": "password"}
    wrong = [name for name, field in fields.items() if values.get(name) != held.get(field)]
    if not wrong:
        return met(expected)
    return not_yet(
        expected,
        f"{wrong[0]} is empty" if values.get(wrong[0]) == "" else f"{wrong[0]} is something else",
        next=f"Look at the line of {wrong[0]} in the template.",
        hint="An error that was silenced is still an error: index gives an empty text for a name "
        "that is not there, and the application starts with it. Ask for {{ .username }}.",
        settling=is_behind(scene, scene["orders"], TEAM, ORDERS_KEY),
    )


_ORDERS = applied("04-external-secrets/orders.yaml")
BROKEN_ORDERS = slip(_ORDERS, ".username", ".usrname")

MEND = Exercise(
    name="mend",
    title="Mend what somebody misspelt",
    script=_ORDERS,
    undo=f"""\
kubectl -n {TEAM} delete externalsecret orders-credentials --ignore-not-found
kubectl -n {TEAM} delete secret orders-credentials --ignore-not-found
{BROKEN_ORDERS}""",
    blanks=(
        'user="⟦{{ .username }}⟧"',
        'password="⟦{{ .password }}⟧"',
    ),
    expectations=(orders_render, orders_are_whole),
    hints=(
        "ESO's message ends with the name that it looked for in vain.",
        "The two secretKeys are username and password; the template spells one of them usrname.",
    ),
    faults=(
        Fault("still misspelt", BROKEN_ORDERS, orders_render, "secretKeys"),
        Fault(
            "a default for it",
            slip(_ORDERS, "{{ .username }}", "{{ .usrname | default `nobody` }}"),
            orders_render,
            "default does not help",
        ),
        Fault(
            "the error is silenced",
            slip(_ORDERS, "{{ .username }}", "{{ index . `usrname` }}"),
            orders_are_whole,
            "silenced",
        ),
    ),
)
