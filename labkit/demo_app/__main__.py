"""Start the application: read the settings, listen, look after the file, stop when told.

The main thread looks at the file; one thread accepts connections and each connection has its
own.  SIGTERM and SIGINT end it within a fraction of a second, open event streams included.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

if not __package__:  # run as a folder (python path/to/demo_app): be the package it holds
    import importlib.util
    from pathlib import Path

    here = Path(__file__).resolve().parent
    spec = importlib.util.spec_from_file_location(
        "demo_app", here / "__init__.py", submodule_search_locations=[str(here)]
    )
    assert spec is not None  # noqa: S101 -- for the type checker
    sys.modules["demo_app"] = importlib.util.module_from_spec(spec)
    __package__ = "demo_app"

from .config import Config, ConfigError
from .journal import Journal
from .server import AppServer
from .store import Store
from .watcher import INTERVAL

_GRACE = 0.15  # seconds that open answers get to finish when we are told to stop


def log(line: str) -> None:
    """One line on standard output, with the time; a reader that went away is no reason to die."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    try:
        sys.stdout.write(f"{stamp}.{int(now % 1 * 1000):03d}Z {line}\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        pass


def main() -> int:
    """Run until told to stop.  Returns the exit code: 0, 1 (cannot listen), 2 (bad setting)."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        config = Config.from_environment(os.environ)
    except ConfigError as error:
        print(f"demo-app: {error}", file=sys.stderr)
        return 2
    journal = Journal()
    journal.record("started", 0, pid=os.getpid())
    store = Store(config, journal, os.environ, log=log)
    store.tick()
    threading.stack_size(256 * 1024)
    try:
        server = AppServer(store, log=log)
    except OSError as error:
        where = f"{config.host}:{config.port}"
        reason = (error.strerror or str(error)).lower()
        print(f"demo-app: cannot listen on {where}: {reason}; set PORT or HOST", file=sys.stderr)
        return 1
    log(f"listening on {server.url} and watching {config.credentials_file} ({config.watch_mode})")
    threading.Thread(target=server.serve_forever, args=(3600.0,), daemon=True).start()
    while not stopping.is_set():
        time.sleep(INTERVAL)  # cheaper than stopping.wait(), and as good at this length
        store.tick()
    server.socket.close()
    journal.close()
    server.wait_idle(timeout=_GRACE)
    log("stopped")
    sys.stdout.flush()
    # Not a plain return: threads that wait for a client's next request would be torn down
    # with the interpreter, which is slower and has nothing left to do.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
