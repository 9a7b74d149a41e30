"""All looks at once, each in its own time: one finding a topic, problems first.

A look that fails becomes a note that says so, and one that does not end is not waited for:
a dead disk or server must not keep anyone from the other findings.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from labkit.doctor import cache, folders, interpreter, kernel, machine, network, remains
from labkit.doctor.finding import Finding, Remark, note
from labkit.doctor.kubeconfig import kubeconfig
from labkit.doctor.patience import Asked
from labkit.errors import LabError

_PATIENCE = 2.2  # seconds for all looks together
_SHOWN = 4
_REPORT = "Nothing depends on it; please report it with `labkit doctor --json`."


@dataclass(frozen=True)
class Look:
    """How one topic is looked at.

    ``at_start``: it can keep a lab from coming up, and so is looked at when one did not;
    ``briefly`` then, where not all of it matters.
    """

    look: Callable[[], list[Remark]]
    at_start: bool = True
    briefly: Callable[[], list[Remark]] | None = None


LOOKS: Mapping[str, Look] = {
    "Python": Look(interpreter.python),
    "System": Look(interpreter.system, at_start=False),
    "Memory": Look(machine.memory),
    "CPU": Look(machine.processor),
    "Disk": Look(folders.disk),
    "Folders": Look(folders.folders),
    "Home": Look(folders.home),
    "Volumes": Look(kernel.volumes, at_start=False),
    "Limits": Look(kernel.limits),
    "Ports": Look(network.ports),
    "Proxy": Look(network.proxies),
    "Clock": Look(machine.clock),
    "Programs": Look(cache.programs, briefly=cache.programs_of_a_lab),
    "Program cache": Look(cache.room, at_start=False),
    "Labs": Look(remains.labs, at_start=False),
    "Leftovers": Look(remains.leftovers),
    "Kubeconfig": Look(kubeconfig, at_start=False),
    "Git": Look(interpreter.git, at_start=False),
    "JupyterLab": Look(interpreter.jupyterlab, at_start=False),
}
"""Every topic, in the order in which they are told."""


def examine(looks: Mapping[str, Look] = LOOKS, *, patience: float = _PATIENCE) -> list[Finding]:
    """Every finding, problems first.  Takes no longer than ``patience`` seconds."""
    until = time.monotonic() + patience
    asked = {topic: Asked(look.look) for topic, look in looks.items()}
    found = [_finding(topic, answer, until) for topic, answer in asked.items()]
    return sorted(found, key=lambda finding: finding.weight)


def _finding(topic: str, answer: Asked[list[Remark]], until: float) -> Finding:
    try:
        remarks = answer.wait(until - time.monotonic())
    except TimeoutError:
        seen = "this look did not end in time"
        fix = "Run `labkit doctor` again; should it happen again, a disk or a server hangs."
        remarks = [note(seen, fix)]
    except LabError as error:
        remarks = [note(f"could not be looked at: {error.what}", error.todo or _REPORT)]
    except Exception as error:  # whose words are not shown: they may hold anything
        place = error.strerror if isinstance(error, OSError) else type(error).__name__
        remarks = [note(f"this look itself failed ({place})", _REPORT)]
    return Finding.of(topic, remarks)


def in_short() -> str:
    """What could keep a lab from coming up here, in at most five lines; for a failed start."""
    matters = ((topic, each) for topic, each in LOOKS.items() if each.at_start)
    found = examine({topic: Look(each.briefly or each.look) for topic, each in matters})
    told = [finding for finding in found if finding.level != "ok"]
    if not told:
        return "`labkit doctor` sees nothing on this machine that would explain it."
    lines = [f"{finding.level}: {finding.in_short()}" for finding in told[:_SHOWN]]
    more = len(told) - _SHOWN
    rest = f" ({more} more)" if more > 0 else ""
    return "\n".join([*lines, f"`labkit doctor` says all that it sees of this machine{rest}."])
