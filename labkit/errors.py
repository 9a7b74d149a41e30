"""Every failure that a person may meet, as one tree.

An error of labkit is a message for a learner in a hurry, so each has the same
three parts: what failed, what was seen, and what to do next.  The command line
prints them as one paragraph; notebooks print the same text without a traceback.

This module imports nothing of labkit, so that every other module may raise from
it.  Programming mistakes stay ordinary Python exceptions and are not caught.
"""

from __future__ import annotations


class LabError(Exception):
    """A failure worth explaining.

    ``what`` says what failed, ``seen`` what was observed (an exit code, a last log
    line, a value), ``todo`` the one thing to do next.  ``str()`` joins the three as
    a single paragraph.  None of them may hold a secret.
    """

    def __init__(self, what: str, *, seen: str = "", todo: str = "") -> None:
        self.what = what
        self.seen = seen
        self.todo = todo
        super().__init__(what)

    def __str__(self) -> str:
        parts = [self.what, f"Seen: {self.seen}" if self.seen else "", self.todo]
        return " ".join(_sentence(part) for part in parts if part)

    def _render_traceback_(self) -> list[str]:
        """Let IPython show the paragraph instead of a traceback.

        Source: IPython's ``InteractiveShell.showtraceback``, which asks an exception
        for this method before it formats one itself.
        """
        return [f"{type(self).__name__}: {self}", *getattr(self, "__notes__", ())]


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text[-1:] in ".!?:" or "\n" in text else f"{text}."


class UsageError(LabError):
    """A name, option or file given by the user is not usable."""


class ProgramError(LabError):
    """A pinned program could not be found, built, fetched or verified."""


class ProcessError(LabError):
    """A child process did not start, died, or was not ready in time."""


class ClusterError(LabError):
    """The Kubernetes control plane could not be brought up or reached."""


class NodeError(LabError):
    """The node agent could not do what a pod asks."""


class ApiError(ClusterError):
    """The Kubernetes API answered with an error.

    ``status`` is the HTTP code, ``reason`` the ``Status.reason`` of the answer
    (``NotFound``, ``Forbidden``, …; "" when the answer had none).
    """

    def __init__(
        self, what: str, *, status: int, reason: str = "", seen: str = "", todo: str = ""
    ) -> None:
        super().__init__(what, seen=seen, todo=todo)
        self.status = status
        self.reason = reason


class ManifestError(LabError):
    """A manifest could not be read or names something the cluster does not know."""


class VaultError(LabError):
    """Vault (or OpenBao) refused or could not be reached."""


class WaitTimeout(LabError):
    """A condition did not come true in the time allowed."""


class NoLab(LabError):
    """No lab of that name is running."""


class LabBusy(LabError):
    """Another command is bringing this lab up or down at this moment."""
