"""Which log of a container is asked for: the query of ``kubectl logs``, to a file.

The kubelet's rules and its very texts, since kubectl shows them as they are
(pkg/kubelet ``validateContainerLogStatus``, pkg/kubelet/server ``getContainerLogs``).
Reading the file is left to ``logs``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit.node import logs
from labkit.node.logs import LogOptions, LogWriter
from labkit.node.plan import UNSEEN, Seen
from labkit.node.pod import Json, parse_timestamp
from labkit.node.podworker import PodWorker
from labkit.node.status import RUNTIME

_PULLING = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


class Unavailable(Exception):
    """There is no such log; the text is the kubelet's."""


@dataclass(frozen=True)
class Log:
    """The log of one run; with a ``writer`` while that run goes on."""

    path: Path
    writer: LogWriter | None = None


def options(query: Mapping[str, str]) -> LogOptions:
    """The options in a query.  Raises ValueError when they can't be understood."""
    since = None
    if "sinceSeconds" in query:
        since = time.time() - int(query["sinceSeconds"])
    elif "sinceTime" in query:
        since = parse_timestamp(query["sinceTime"])
    return LogOptions(
        follow=flag(query, "follow"),
        tail_lines=_number(query, "tailLines"),
        limit_bytes=_number(query, "limitBytes"),
        since=since,
        timestamps=flag(query, "timestamps"),
    )


def flag(query: Mapping[str, str], name: str) -> bool:
    """Whether a yes-or-no parameter is set, in the words that the API accepts for it."""
    return query.get(name, "").lower() not in ("", "0", "false")


def _number(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    number = int(query[name])
    if number < 0:
        raise ValueError(f"{name} must not be negative")
    return number


def choose(worker: PodWorker, container: str, *, previous: bool) -> Log:
    """The log of the present run of ``container``, or else of the last one that ended.

    ``previous``: of the run before.  Raises Unavailable.
    """
    where = f"container {json.dumps(container)} in pod {json.dumps(worker.pod.name)}"
    status = _status(worker.status, container)
    if status is None:
        raise Unavailable(f"{where} is not available")
    state, last = status["state"], status["lastState"].get("terminated")
    if previous:
        if not (last and last.get("containerID")):
            raise Unavailable(f"previous terminated {where} not found")
        run = last["containerID"]
    elif "running" in state:
        run = status["containerID"]
    elif state.get("terminated", {}).get("containerID"):
        run = state["terminated"]["containerID"]
    elif last and last.get("containerID"):
        run = last["containerID"]
    elif "terminated" in state or last:
        raise Unavailable(f"{where} is terminated")
    else:
        reason = state.get("waiting", {}).get("reason", "")
        raise Unavailable(f"{where} is waiting to start: {_PULLING.get(reason, reason)}")
    return _log(worker, container, run.removeprefix(f"{RUNTIME}://"))


def _status(status: Json, container: str) -> Json | None:
    for kind in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for each in status.get(kind) or ():
            if each["name"] == container:
                return {"state": {}, "lastState": {}, **each}
    return None


def _log(worker: PodWorker, container: str, run_id: str) -> Log:
    seen = worker.seen.get(container, UNSEEN)
    path = logs.log_path(worker.log_folder(container), _number_of(seen, run_id))
    run = worker.current_run(container)
    is_current = run is not None and run.running.id == run_id
    return Log(path, run.log if run is not None and is_current else None)


def _number_of(seen: Seen, run_id: str) -> int:
    """The number of a run, which names its log: that of the latest is the restart count."""
    latest = seen.running or seen.exit
    is_latest = latest is None or latest.id == run_id
    return seen.restarts if is_latest else max(0, seen.restarts - 1)
