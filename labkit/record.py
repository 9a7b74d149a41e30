"""``lab.json``: what one lab is and does, for whoever asks.

The supervisor writes it whole at every change; the guardian begins it and has the last
word, since it outlives the supervisor.  Everyone else reads it.  It holds no secret, and
it is not proof that anything runs: for that see ``launch.running``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from labkit import errors, host
from labkit.errors import ClusterError, LabError
from labkit.paths import write_private

VERSION = 1
"""Raise it when an older reader would misunderstand; an older file counts as missing."""

ProgramState = Literal["starting", "running", "restarting", "stopped"]
Phase = Literal["starting", "ready", "stopping", "stopped", "failed"]


@dataclass(frozen=True)
class ProcessId:
    """A process, told from a later one with the same pid by its start time (``host``)."""

    pid: int
    start_time: float

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        return cls(pid, host.process_start_time(pid) or 0.0)

    @property
    def lives(self) -> bool:
        return host.is_same_process(self.pid, self.start_time)


@dataclass(frozen=True)
class Problem:
    """A LabError as data; ``kind`` is its class."""

    what: str
    seen: str = ""
    todo: str = ""
    kind: str = ""

    @classmethod
    def of(cls, error: LabError) -> Problem:
        return cls(error.what, error.seen, error.todo, type(error).__name__)

    def to_error(self) -> LabError:
        """The error again, as its class where that takes just these three parts."""
        kind = getattr(errors, self.kind, ClusterError)
        if not (isinstance(kind, type) and issubclass(kind, LabError)):
            kind = ClusterError
        if kind.__init__ is not LabError.__init__:
            kind = ClusterError
        return kind(self.what, seen=self.seen, todo=self.todo)


@dataclass(frozen=True)
class Program:
    """One program of the control plane, as its keeper tells it.

    ``detail`` says why it was restarted; ``pid`` is None while it does not run.
    """

    name: str
    version: str
    pid: int | None = None
    start_time: float | None = None
    restarts: int = 0
    state: ProgramState = "starting"
    detail: str = ""


@dataclass(frozen=True)
class Record:
    """One lab.

    ``detail`` says what is being done now, while it starts or stops.  ``run`` is the
    folder of its unix sockets, and ``boot`` the run of the system in which the start
    times count.  ``sync`` is how Secrets reach files (watch, kubelet), ``mode`` how a
    container sees its volumes (mounts, rewrite; foreign: that is for the nodes of somebody
    else's cluster to say, which is at ``server``).
    """

    name: str
    phase: Phase
    detail: str = ""
    error: Problem | None = None
    boot: str = ""
    guardian: ProcessId | None = None
    supervisor: ProcessId | None = None
    run: str = ""
    kubeconfig: str = ""
    server: str = ""
    sync: str = "watch"
    mode: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    programs: tuple[Program, ...] = ()

    @property
    def lives(self) -> bool:
        """Whether its guardian and its supervisor are there, both of them."""
        return (
            self.boot == host.boot_id()
            and self.guardian is not None
            and self.supervisor is not None
            and self.guardian.lives
            and self.supervisor.lives
        )

    def write(self, path: Path) -> None:
        """Raises OSError when it cannot be written; what was there stays then.

        A lab's folder that somebody has removed is not made again.
        """
        path.parent.stat()
        write_private(path, json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n")


def read(path: Path) -> Record | None:
    """The record; None when there is none, or a torn one, or one of another format.

    Raises LabError when it may not be read.
    """
    try:
        content = json.loads(path.read_bytes())
        return _record(content) if content.pop("version") == VERSION else None
    except PermissionError as error:
        raise LabError(
            "The lab's record may not be read",
            seen=str(path),
            todo="Set LABKIT_STATE to a folder of yours.",
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _record(content: dict[str, Any]) -> Record:
    """Raises TypeError, KeyError or AttributeError when something is amiss."""
    for name, part in (("error", Problem), ("guardian", ProcessId), ("supervisor", ProcessId)):
        if content[name] is not None:
            content[name] = part(**content[name])
    content["programs"] = tuple(Program(**program) for program in content["programs"])
    return Record(**content)
