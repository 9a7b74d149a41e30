"""What a lab may leave outside its state folder, found and removed.

That is processes and, where the state folder's path is too long for unix sockets, a
folder in the system's temp folder.  The guardian uses this when the supervisor has ended,
the supervisor when the guardian was killed, and ``launch`` when both were.  Only what the
lab's ledger and record prove to be its own is touched.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from labkit import host
from labkit.ledger import Ledger

RUN_PREFIX = "run-"
"""How the name of a run folder inside a lab's own folder begins."""
_LONGEST_SOCKET = 100  # bytes; the kernel's limit is 107 on Linux, 103 on macOS
_SOCKET_NAMES = "labkit-golden-01234567/run/etcd.sock"  # the longest below a run folder


def choose_run_folder(root: Path) -> Path:
    """A folder, not there yet, whose path leaves room for the names of unix sockets.

    In ``root`` where that is short enough, else in the temp folder.  The name is another one
    for each start, so that a lab which ends never removes a later one's; in the temp folder
    it is one that nobody can guess.  Raises OSError when there is no such place.
    """
    unique = f"labkit-{os.urandom(6).hex()}"
    inside = f"{RUN_PREFIX}{os.urandom(2).hex()}"
    places = [os.environ.get("TMPDIR") or "/tmp", "/tmp"]  # noqa: S108 - made new, mode 0700
    for folder in (root / inside, *(Path(place) / unique for place in places)):
        if has_room_for_sockets(folder) and os.access(folder.parent, os.W_OK | os.X_OK):
            return folder
    raise OSError(None, "its path is too long for unix sockets, and so is TMPDIR's", str(root))


def has_room_for_sockets(run: Path) -> bool:
    """Whether the names of a lab's unix sockets fit below the run folder ``run``."""
    return len(os.fsencode(run / _SOCKET_NAMES)) <= _LONGEST_SOCKET


def remove_folder(folder: Path) -> None:
    """Remove all of ``folder``, read-only folders in it too; safe to repeat."""
    import shutil  # large: the guardian has it in memory at its end only

    def open_up(_function: object, path: str, _error: object) -> None:
        with contextlib.suppress(OSError):
            Path(path).parent.chmod(0o700)
            if Path(path).is_dir() and not Path(path).is_symlink():
                Path(path).chmod(0o700)

    shutil.rmtree(folder, onerror=open_up)
    shutil.rmtree(folder, ignore_errors=True)


def kill_all(
    ledger: Ledger,
    *,
    below: int | None = None,
    between: Callable[[], object] = lambda: None,
    timeout: float = 10.0,
) -> list[int]:
    """Kill the processes of ``ledger`` and their descendants until there are none.

    ``below``: descendants of this process too.  This process is spared.  ``between`` is
    called each time before looking again, to collect zombies.  Returns the pids that are
    there after ``timeout`` seconds all the same: what hangs in the kernel, or another
    user's.  Safe to repeat.
    """
    deadline = time.monotonic() + timeout
    while True:
        entered = [pid for pid, _ in ledger.living()]
        roots = entered if below is None else [*entered, below]
        left = dict.fromkeys([*entered, *(host.descendants(*roots) if roots else [])])
        left.pop(os.getpid(), None)
        if not left or time.monotonic() > deadline:
            return list(left)
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        between()
        time.sleep(0.005)


def last_lines(file: Path, count: int = 12) -> str:
    """The last lines of a small file; "" when it cannot be read."""
    try:
        return "\n".join(file.read_text(errors="replace").splitlines()[-count:])
    except OSError:
        return ""
