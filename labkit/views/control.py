"""Buttons for a running lab: rotate, choose how often ESO reads, break it and mend it.

Each shows the command line that it stands for.  What is done is ``actions``'; here each is
run in a thread of its own, so that the kernel stays free, and told when it begins and how
it ended.
"""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from labkit import actions, eso, vault
from labkit import lab as labs
from labkit.actions import Action
from labkit.errors import LabError
from labkit.lab import Lab
from labkit.snapshot import Snapshot
from labkit.views.following import Following, one

KEPT = 5
"""Actions that are told."""
_OPERATOR = ("Deployment", eso.NAMESPACE, "external-secrets")


@dataclass(frozen=True)
class Told:
    """One action that was begun: ``ok`` is None while it runs."""

    number: int
    group: str
    title: str
    lines: tuple[str, ...]
    said: tuple[str, ...] = ()
    ok: bool | None = None


def show(lab: Lab) -> Control:
    """The buttons for this lab."""
    return one(Control, lab, lambda: Control(lab))


def choices(lab: Lab, tool: str) -> dict[str, tuple[str, Action]]:
    """What can be done, by name: the group that it belongs to (of which one runs at a time)
    and the action itself."""
    return {
        "rotate": ("rotate", actions.rotate(lab, forced=True, tool=tool)),
        "rotate-later": ("rotate", actions.rotate(lab, forced=False, tool=tool)),
        **{
            f"every-{interval}": ("interval", actions.refresh_every(lab, interval))
            for interval in actions.INTERVALS
        },
        "stop-vault": ("vault", actions.stop_vault(lab)),
        "start-vault": ("vault", actions.start_vault(lab)),
        "pause-eso": ("eso", actions.pause_eso(lab)),
        "resume-eso": ("eso", actions.resume_eso(lab)),
    }


def state_of(
    seen: Snapshot, offered: Mapping[str, tuple[str, Action]], told: Sequence[Told]
) -> dict[str, Any]:
    """What the view shows.  ``buttons`` by name: its label, whether it can be pressed, and
    if not why; ``told`` newest first."""
    busy = {each.group for each in told if each.ok is None}
    return {
        "now": _now(seen),
        "forgets": actions.FORGETS,
        "every": seen.refresh_interval,
        "buttons": {
            name: {
                "label": name.removeprefix("every-") if group == "interval" else action.title,
                "why": "It is being done." if group in busy else _why_not(name, seen),
                "lines": list(action.lines),
            }
            for name, (group, action) in offered.items()
        },
        "told": [
            {
                "number": each.number,
                "title": each.title,
                "lines": list(each.lines),
                "said": list(each.said),
                "ok": each.ok,
            }
            for each in reversed(told)
        ],
    }


def _now(seen: Snapshot) -> str:
    """How things are, in a line."""
    if seen.lab != "up":
        return seen.problem or f"The lab is {seen.lab}."
    name = f"{seen.vault.engine} {seen.vault.version}".strip() or "Vault"
    every = f"every {seen.refresh_interval}" if seen.refresh_interval else "nothing yet"
    operator = "is paused" if _is_paused(seen) else f"reads {every}"
    return f"{name} is {seen.vault.state}; ESO {operator}."


def _why_not(name: str, seen: Snapshot) -> str:
    """Why it makes no sense now; "" when it does."""
    if seen.lab != "up":
        return "The lab does not run."
    state = seen.vault.state
    if name.startswith("rotate") and state != "open":
        return f"Vault is {state}."
    if name.startswith("every-") and not seen.refresh_interval:
        return "There is no ExternalSecret yet."
    return {
        "stop-vault": f"Vault is {state}." if state in {"stopped", "missing"} else "",
        "start-vault": "Vault is open." if state == "open" else "",
        "pause-eso": "ESO is paused." if _is_paused(seen) else "",
        "resume-eso": "" if _is_paused(seen) else "ESO is at work.",
    }.get(name, "")


def _is_paused(seen: Snapshot) -> bool:
    operator = seen.thing(*_OPERATOR)
    return operator is not None and operator.message == "scaled to 0"


class Control(Following, files="control"):
    """The buttons.  Made by ``views.control(lab)``."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._told: tuple[Told, ...] = ()
        self._count = 0
        self._guard = threading.Lock()
        names = choices(lab, "bao")
        super().__init__(lab, self._state, {name: self._press(name) for name in names})

    def _state(self, seen: Snapshot) -> dict[str, Any]:
        return state_of(seen, choices(self._lab, _tool(seen)), self._told)

    def do(self, name: str) -> threading.Thread:
        """Begin what the button of this name does; the thread that does it.

        Raises LabError when it cannot be done now.
        """
        # The lab may have been started anew since this was made: another API, other keys.
        lab = labs.attach(self._lab.name)
        group, action = choices(lab, _tool(self.latest))[name]
        with self._guard:
            running = [each for each in self._told if each.group == group and each.ok is None]
            if why := "It is being done" if running else _why_not(name, self.latest):
                raise LabError(f"“{action.title}” cannot be done now", seen=why)
            self._count += 1
            begun = Told(self._count, group, action.title, action.lines)
            self._told = (*self._told[-(KEPT - 1) :], begun)
        self.redraw()
        thread = threading.Thread(
            target=self._run, args=(begun.number, action), name=f"labkit-{name}", daemon=True
        )
        thread.start()
        return thread

    def _press(self, name: str) -> Callable[[Mapping[str, Any]], None]:
        def press(_: Mapping[str, Any]) -> None:
            self.do(name)

        return press

    def _run(self, number: int, action: Action) -> None:
        try:
            self._tell(number, action.run(lambda line: self._tell(number, line)), ok=True)
        except LabError as error:
            self._tell(number, str(error), ok=False)
        except BaseException as error:
            self._tell(number, f"It ended with an unexpected {type(error).__name__}.", ok=False)
            raise

    def _tell(self, number: int, line: str, *, ok: bool | None = None) -> None:
        with self._guard:
            self._told = tuple(
                replace(each, said=(*each.said, line), ok=ok) if each.number == number else each
                for each in self._told
            )
        self.redraw()

    # -- as text ---------------------------------------------------------------------------

    def as_text(self) -> str:
        lines = [f"Control: {self.state['now']}"]
        for each in self.state["told"]:
            lines.append(f"{each['title']}: {_outcome(each['ok'])}")
            lines += [f"  $ {line}" for line in each["lines"]]
            lines += [f"  {line}" for line in each["said"]]
        lines.append("In a terminal:")
        lines += [
            f"  {button['label']}: {' ; '.join(button['lines'])}"
            for button in self.state["buttons"].values()
        ]
        return "\n".join(lines)

    def as_html(self) -> str:
        rows = "".join(
            f"<tr><th scope='row'>{html.escape(button['label'])}</th>"
            f"<td><code>{'<br>'.join(map(html.escape, button['lines']))}</code></td></tr>"
            for button in self.state["buttons"].values()
        )
        told = "".join(
            f"<li>{html.escape(each['title'])}: {_outcome(each['ok'])} "
            f"{html.escape(' '.join(each['said']))}</li>"
            for each in self.state["told"]
        )
        return (
            f"<p><b>Control</b>: {html.escape(self.state['now'])}</p>"
            f"<table><tr><th>what</th><th>in a terminal</th></tr>{rows}</table>"
            + (f"<ul>{told}</ul>" if told else "")
        )


def _outcome(ok: bool | None) -> str:
    return {None: "is being done", True: "done", False: "failed"}[ok]


def _tool(seen: Snapshot) -> str:
    return next(
        (each.program for each in vault.ENGINES.values() if each.title == seen.vault.engine), "bao"
    )
