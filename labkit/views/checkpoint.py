"""A checkpoint with its buttons: check again, a hint, the solution, solve and go on.

It is given the first report and what each button does; what a checkpoint looks at is not
its business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from labkit.errors import LabError
from labkit.markup import as_html

Shown = Callable[[], Any]
"""Does something and returns what to show: with ``_repr_mimebundle_``, or as text."""


def checkpoint(title: str, first: Any, actions: Mapping[str, Shown]) -> Any:
    """An ipywidgets box: ``first`` above, a row of buttons, and what the last one said.

    ``actions`` are the buttons' labels and what they do; a LabError of theirs is shown as
    its paragraph.  What is shown is announced to screen readers (``role="status"``).
    """
    import ipywidgets as widgets  # type: ignore[import-untyped]  # slow to import: only notebooks pay for it

    report = widgets.HTML(html_of(first))
    said = widgets.HTML()
    buttons = []
    for label, action in actions.items():
        button = widgets.Button(
            description=label, tooltip=f"{label}: {title}", layout=widgets.Layout(width="auto")
        )
        button.on_click(_pressed(action, button, report, said))
        buttons.append(button)
    return widgets.VBox([report, widgets.HBox(buttons), said])


def _pressed(action: Shown, button: Any, report: Any, said: Any) -> Callable[[Any], None]:
    def press(_: Any) -> None:
        button.disabled = True
        try:
            shown = action()
        except LabError as error:
            said.value = f'<p role="status">{as_html(str(error))}</p>'
        else:
            if hasattr(shown, "passed"):  # a report replaces the one above
                report.value, said.value = html_of(shown), ""
            else:
                said.value = html_of(shown)
        finally:
            button.disabled = False

    return press


def html_of(shown: Any) -> str:
    """What a browser gets of something that can be displayed."""
    bundle = shown._repr_mimebundle_() if hasattr(shown, "_repr_mimebundle_") else {}
    return str(bundle.get("text/html") or f'<p role="status">{as_html(str(shown))}</p>')
