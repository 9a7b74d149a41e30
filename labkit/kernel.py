"""What every notebook's kernel does for a learner before the first cell is run.

An IPython extension, loaded by the configuration that labkit's wheel brings along.  It
turns errors that everybody meets (cells run out of order, Vault saying no, an interrupt)
into a sentence with a next step, and warns of tokens that were pasted into a cell.  It
imports nothing of the lab: a kernel starts as fast as without it.
"""

from __future__ import annotations

import re
from typing import Any

TOKEN = re.compile(r"\b(?:hvs|hvb|s|b)\.[A-Za-z0-9_-]{20,}|\beyJ[\w-]{10,}\.[\w-]{10,}\.")


def load_ipython_extension(shell: Any) -> None:
    """Called by IPython (its extension interface) when a kernel starts."""
    shell.set_custom_exc((Exception, KeyboardInterrupt), _explain)
    shell.events.register("pre_run_cell", _warn_of_tokens)
    shell.register_magic_function(_too_early, "cell", "your_turn")


def _too_early(_line: str, _cell: str) -> None:
    print("Run the notebook's first cells first: they begin the lesson. Then this one again.")


def _warn_of_tokens(info: Any) -> None:
    if lines := token_lines(info.raw_cell or ""):
        print(
            f"Careful: line {lines[0]} holds what looks like a token. A notebook is a file that "
            "gets copied and committed: take it out, and clear this cell's output.\n"
        )


def token_lines(text: str) -> list[int]:
    """The lines (from 1) in which there is what looks like a token of Vault's or a JWT."""
    return [number for number, line in enumerate(text.splitlines(), 1) if TOKEN.search(line)]


def _explain(
    shell: Any, kind: type, error: BaseException, trace: Any, tb_offset: Any = None
) -> Any:
    text = said(error)
    if text is None:
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
        return None
    # Through IPython's own channel, so that nbclient and papermill still see a failed cell.
    lines = [f"{kind.__name__}: {text}"]
    shell._showtraceback(kind, text, lines)
    return lines


def said(error: BaseException) -> str | None:
    """A sentence with a next step for an error that learners meet; None for any other."""
    module = type(error).__module__
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted. Nothing is broken: run the cell again when you like."
    if isinstance(error, NameError):
        return (
            f"There is no {error.name!r} yet. Run the notebook's first cells, and those above this "
            "one (Run > Run All Above Selected Cell), and then this one again."
        )
    if module.startswith("hvac."):
        words = str(error).splitlines()[0].removesuffix(", on None None")
        return f"Vault said: {words}. Look at the path and the token's policy."
    if module.startswith("requests.") and "Connection" in type(error).__name__:
        return "Nobody answers. `labkit status` in a terminal says what runs; `labkit up` mends it."
    if module.startswith("kubernetes.") and hasattr(error, "reason"):
        return f"The Kubernetes API said: {getattr(error, 'status', '')} {error.reason}."
    return None
