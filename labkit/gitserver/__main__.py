"""Start the server: read the settings, have the repositories there, listen, stop when told.

The main thread only waits for SIGTERM or SIGINT; one thread accepts connections and each
connection has its own.  A push that is being stored when the server is told to stop is
stored first.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from .config import Config, ConfigError
from .repositories import GitError, Repositories
from .server import GitServer

_GRACE = 4.0  # seconds that requests at work get to finish when we are told to stop


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
    """Run until told to stop.  Returns the exit code: 0, 1 (cannot start), 2 (bad setting)."""
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        config = Config.from_environment(os.environ)
    except ConfigError as error:
        print(f"git-server: {error}", file=sys.stderr)
        return 2
    repositories = Repositories(config)
    threading.stack_size(256 * 1024)
    try:
        repositories.prepare()
        server = GitServer(repositories, log=log)
    except GitError as error:
        print(f"git-server: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        where = error.filename or f"{config.host}:{config.port}"
        print(f"git-server: cannot use {where}: {reason}", file=sys.stderr)
        return 1
    log(f"listening on {config.host}:{server.server_port}, repositories: {' '.join(config.names)}")
    threading.Thread(target=server.serve_forever, args=(3600.0,), daemon=True).start()
    os.read(told, 1)
    server.socket.close()
    server.wait_idle(timeout=_GRACE)
    log("stopped")
    sys.stdout.flush()
    # Not a plain return: threads that wait for a client's next request would be torn down
    # with the interpreter, which is slower and has nothing left to do.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
