"""Have a Chromium for tests and benches: find it, or install the system's package.

    python -m bench.chromium

Prints its path, or why there is none (exit code 1).  Test tools' own downloads of browsers
are not used: a distribution's package is signed, and there behind proxies too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


FLAGS = (
    "--disable-gpu",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    # As root, in a container, Chromium cannot make the namespaces of its own sandbox.
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
)
"""How it is started: with no calls home, which a closed network would answer with errors."""


def find() -> str | None:
    """The browser of ``LABKIT_CHROMIUM``, or the first that is on PATH."""
    return os.environ.get("LABKIT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def install() -> str:
    """Install the distribution's chromium; "" when that worked, else why not."""
    if not shutil.which("apt-get"):
        return "no Chromium on PATH, and no apt-get to install one with"
    if os.geteuid() == 0:
        prefix: list[str] = []
    elif (
        shutil.which("sudo")
        and not subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode
    ):
        prefix = ["sudo", "-n"]
    else:
        return "no Chromium on PATH, and installing one takes root: apt-get install chromium"
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", "chromium"]):
        done = subprocess.run(
            [*prefix, "apt-get", *words], env=quiet, capture_output=True, text=True, check=False
        )
    if find():
        return ""
    return f"apt-get could not install chromium: {done.stderr.strip().splitlines()[-1:]}"


def main() -> int:
    problem = "" if find() else install()
    print(problem or f"Chromium: {find()}", flush=True)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
