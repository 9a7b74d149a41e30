"""Labs: which run, and what is left of those that do not.

Processes count as a lab's own only where its ledger proves it, and a temp folder as left
behind only when nobody holds a socket in it.  Nothing is ended or removed here: `labkit
down` does that.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from pathlib import Path

from labkit import host, launch, record
from labkit.doctor.finding import Remark, note, ok
from labkit.doctor.folders import temporary
from labkit.errors import LabError
from labkit.ledger import Ledger
from labkit.options import option_for
from labkit.paths import LabPaths

_TEMPORARY = re.compile(r"labkit-([0-9a-f]{12}|(probe|golden|mirror|history|look)-\w+)")
"""Folders that labkit makes in the temp folder: of sockets, and for the time of a command."""
_SETTLED = 600.0  # seconds: a younger folder may be in use by a command


def labs() -> list[Remark]:
    """Which labs there are, and which of them do not run."""
    running: list[str] = []
    resting: list[str] = []
    unread: list[str] = []
    for name in launch.names():
        try:
            is_up = launch.running(name) is not None or _is_changing(name)
        except LabError:
            unread.append(name)
            continue
        (running if is_up else resting).append(name)
    remarks = []
    if unread:
        seen = f"another user's, or not to be read: {', '.join(unread)}"
        remarks.append(note(seen, "Set LABKIT_STATE to a folder of yours."))
    if resting:
        up = ", ".join(f"`labkit up{option_for(name)}`" for name in resting[:3])
        fix = f"{up} starts it again; `labkit down --all` clears all labs, running ones too."
        if len(resting) == 1:
            fix = f"{up} starts it again; `labkit down{option_for(resting[0])}` clears it."
        remarks.append(note(f"not running: {', '.join(resting)}", fix))
    return remarks or [ok(f"running: {', '.join(running) or 'none'}")]


def _is_changing(name: str) -> bool:
    """Whether the lab's own guardian is there: it starts, or stops, and sees to the rest."""
    found = record.read(LabPaths.of(name).record)
    return (
        found is not None
        and found.boot == host.boot_id()
        and found.guardian is not None
        and found.guardian.lives
    )


def leftovers() -> list[Remark]:
    """Processes of labs that have ended, and folders in the temp folder."""
    remarks = []
    for name in launch.names():
        try:
            if launch.running(name) is not None or _is_changing(name):
                continue
            pids = [str(pid) for pid, _ in Ledger(LabPaths.of(name).ledger).living()]
        except LabError:
            continue
        if pids:
            seen = f"processes of the lab {name}, which has ended: {', '.join(pids)}"
            fix = f"`labkit down{option_for(name)}` ends them (so does `labkit up`)."
            remarks.append(note(seen, fix))
    temp = temporary()
    left = [] if temp is None else unused(temp)
    if left:
        words = " ".join(shlex.quote(str(folder)) for folder in left)
        seen = f"{len(left)} temp folder{'s' if len(left) > 1 else ''} that nobody uses"
        remarks.append(note(seen, f"`rm -r {words}`"))
    return remarks or [ok("none")]


def unused(temp: Path, now: float | None = None) -> list[Path]:
    """This user's folders of labkit's in ``temp`` that no process holds a socket in.

    ``now``: seconds since 1970, None for this moment; what was touched in the ten minutes
    before is passed over.  Where the kernel does not tell of sockets: none.
    """
    held = host.bound_unix_sockets()
    if held is None:
        return []
    moment = time.time() if now is None else now
    found = []
    for folder in sorted(temp.glob("labkit-*")):
        try:
            info = folder.lstat()
        except OSError:
            continue
        is_ours = info.st_uid == os.getuid() and _TEMPORARY.fullmatch(folder.name)
        is_held = any(path.startswith(f"{folder}/") for path in held)
        if folder.is_dir() and is_ours and not is_held and info.st_mtime < moment - _SETTLED:
            found.append(folder)
    return found
