"""The programs that a lab runs: pinned, verified, cached; found or made.

This package knows nothing of Kubernetes.  ``resolve`` gives a program that is there,
``ensure`` makes what is missing.  The catalogue is data; how a program is built is one
module, where it is kept another.
"""

from labkit.programs.catalogue import CATALOGUE, Entry
from labkit.programs.progress import Event, Progress, silent
from labkit.programs.resolve import Program, ensure, lock_digest, resolve

__all__ = [
    "CATALOGUE",
    "Entry",
    "Event",
    "Program",
    "Progress",
    "ensure",
    "lock_digest",
    "resolve",
    "silent",
]
