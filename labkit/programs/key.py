"""One word for a cache of built programs: another one exactly when something else would be built.

A CI system keeps the cache folder under a key.  It can hash files of this repository, but in
somebody else's repository there are none of them: there only an installed labkit knows.

``labkit programs key [NAME…]`` prints it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from labkit.programs.catalogue import builds_of, needed_by_the_course
from labkit.programs.packlock import platform_name
from labkit.programs.resolve import entry_of

_LENGTH = 16  # hex digits, as a build's folder in the cache has


def cache_key(names: Iterable[str] = ()) -> str:
    """The key for the builds that make ``names`` (none: what the course needs).

    It begins with ``labkit-SYSTEM-MACHINE-``, which is what a cache that is only nearly right
    is found by: builds are kept by their locks, so an older cache does no harm and saves the
    builds that are the same.  Raises UsageError for a name that there is not.
    """
    wanted = tuple(names) or needed_by_the_course()
    for name in wanted:
        entry_of(name)
    locks = "".join(module.lock_digest() for module in builds_of(wanted))
    digest = hashlib.sha256(locks.encode()).hexdigest()[:_LENGTH]
    return f"labkit-{platform_name()}-{digest}"
