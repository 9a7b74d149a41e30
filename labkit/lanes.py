"""Identical ways from Vault to an app, side by side: what rotations are measured on.

Each lane has a KV key, an ExternalSecret, a Secret and an app of its own; the apps are the
containers of one pod.  All of it is one template (``manifests/06-live-rotation``), with an
identity that may read these keys and no others.  Everything is taken away when the lanes
are closed, whatever ended the work on them, and what a killed process left is taken away
by the next one.  Rotating is left to ``rounds``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import hvac
import requests
from hvac.exceptions import InvalidPath
from hvac.exceptions import VaultError as HvacError

from labkit import eso, host, vault
from labkit.app import App
from labkit.errors import ApiError, LabError, VaultError
from labkit.kube import Kube, Object, namespaces, parse_manifests
from labkit.lane import FOLDER, NAMESPACE, POD, Lane, new_values
from labkit.paths import manifest

ROLE = "latency"
POLICY = "latency-read"
STORE = "vault-latency"
MOST = 10  # lanes; a page stand-in and a process each
_FIRST_PORT = 8081
_OWNER = "labkit/owner"
_POLICY_TEXT = f"""\
path "{vault.MOUNT}/data/{FOLDER}/*" {{
  capabilities = ["read"]
}}
"""
_open_here = threading.Lock()


@contextmanager
def opened(
    kube: Kube,
    client: hvac.Client,
    count: int,
    *,
    provide_app: Callable[[Kube, str], None] = lambda kube, namespace: None,
    timeout: float = 60.0,
) -> Iterator[tuple[Lane, ...]]:
    """Lanes 1 to ``count`` (at most MOST), ready to be rotated; removed afterwards.

    ``provide_app`` sees to it that the new namespace can run the app.
    ``timeout`` is in seconds.  Raises LabError when somebody else has lanes open in this
    cluster, and whatever kept a step from being done.
    """
    if not _open_here.acquire(blocking=False):
        raise _busy("in this process")
    try:
        try:
            _claim(kube, client)
            provide_app(kube, NAMESPACE)
            pod = _set_up(kube, client, count, timeout)
            with ExitStack() as pages:
                yield tuple(
                    _lane(kube, client, pod, number, timeout, pages)
                    for number in range(1, count + 1)
                )
        finally:
            _to_the_end(lambda: _remove_own(kube, client))
    finally:
        _open_here.release()


def remove(kube: Kube, client: hvac.Client) -> None:
    """Take everything away that lanes consist of; safe to repeat.

    Raises VaultError or ApiError for what could not be removed.
    """
    try:
        namespaces.remove(kube, NAMESPACE)
    finally:
        with _said_by_vault("remove the lanes' keys, role and policy"):
            _forget(client)


def _forget(client: hvac.Client) -> None:
    for number in range(1, MOST + 1):  # asking which there are takes LIST, which the API
        with suppress(InvalidPath):  # server's proxy refuses
            client.secrets.kv.v2.delete_metadata_and_all_versions(
                path=f"{FOLDER}/lane-{number}", mount_point=vault.MOUNT
            )
    with suppress(InvalidPath):  # there is no Kubernetes auth
        client.auth.kubernetes.delete_role(ROLE)
    client.sys.delete_policy(POLICY)


def _claim(kube: Kube, client: hvac.Client) -> None:
    """Make the namespace with this process's name on it; whoever has it is the only one."""
    body = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": NAMESPACE,
            "annotations": {_OWNER: _this_process()},
            "labels": kube.labels,
        },
    }
    for _ in range(3):
        found = kube.get("v1", "Namespace", NAMESPACE)
        if found is not None:
            _check_owner(_owner(found))
            remove(kube, client)
        try:
            kube.request("POST", "/api/v1/namespaces", body=body)
            return
        except ApiError as error:
            if error.status != 409:  # somebody was quicker: see who
                raise
    raise _busy(f"the namespace {NAMESPACE} is taken again and again")


def _remove_own(kube: Kube, client: hvac.Client) -> None:
    found = kube.get("v1", "Namespace", NAMESPACE)
    if found is None or _owner(found) == _this_process():  # else it is somebody else's turn
        remove(kube, client)


def _this_process() -> str:
    return f"{os.getpid()} {host.process_start_time(os.getpid())!r} {host.boot_id()}"


def _owner(namespace: Object) -> str:
    return str((namespace["metadata"].get("annotations") or {}).get(_OWNER, ""))


def _check_owner(owner: str) -> None:
    try:
        pid, began, boot = owner.split()
        is_alive = boot != host.boot_id() or host.is_same_process(int(pid), float(began))
    except ValueError:
        is_alive = False  # no name of ours: made by hand, for one
    if is_alive and int(pid) != os.getpid():
        raise _busy(f"process {pid} has the namespace {NAMESPACE}")


def _busy(seen: str) -> LabError:
    return LabError(
        "Another measurement of rotations is running in this cluster",
        seen=seen,
        todo="Wait until it ends, or interrupt it; where nobody measures any more, "
        f"`kubectl delete namespace {NAMESPACE}` clears the way.",
    )


def _set_up(kube: Kube, client: hvac.Client, count: int, timeout: float) -> Object:
    """From an empty namespace to the pod's containers being started; the pod."""
    numbers = range(1, count + 1)
    with _said_by_vault("let the lanes in"):
        client.sys.create_or_update_policy(POLICY, _POLICY_TEXT)
        vault.admit(client, ROLE, (NAMESPACE, NAMESPACE), POLICY)
    for number in numbers:
        vault.write(client, new_values(), key=f"{FOLDER}/lane-{number}")
    for obj in _shared():
        kube.apply(obj)
    eso.wait_store(kube, STORE, namespace=NAMESPACE, timeout=timeout)
    for number in numbers:
        kube.apply(_only(number, "ExternalSecret"))
    for number in numbers:
        eso.wait_synced(kube, f"lane-{number}", NAMESPACE, timeout=timeout)
    kube.apply(_pod(count))
    found = kube.get("v1", "Pod", POD, NAMESPACE)
    if found is None:
        raise LabError(f"The pod {POD} vanished while the lanes were made", todo="Try again.")
    return found


def _lane(
    kube: Kube, client: hvac.Client, pod: Object, number: int, timeout: float, pages: ExitStack
) -> Lane:
    app = App(
        kube,
        "",
        NAMESPACE,
        labels=f"app={POD}",
        pod_name=POD,
        pod_port=_FIRST_PORT + number - 1,
    )
    app.wait_answering(timeout=timeout)
    page = pages.enter_context(app.page(f"latency-{number}"))
    if not page.opened.wait(timeout):
        raise LabError(f"The event stream of lane {number} did not open", seen=app.pod_state())
    return Lane(kube, client, f"lane-{number}", app, page, pod)


# -- the template --------------------------------------------------------------------


def _objects(number: int) -> list[Object]:
    text = manifest("06-live-rotation/lanes.yaml").read_text()
    text = text.replace("lane-1", f"lane-{number}")
    text = text.replace(str(_FIRST_PORT), str(_FIRST_PORT + number - 1))
    return parse_manifests(text, "manifests/06-live-rotation/lanes.yaml")


def _only(number: int, kind: str) -> Object:
    return next(obj for obj in _objects(number) if obj["kind"] == kind)


def _shared() -> list[Object]:
    own = {"Namespace", "ExternalSecret", "Pod"}
    return [obj for obj in _objects(1) if obj["kind"] not in own]


def _pod(count: int) -> Object:
    pods = [_only(number, "Pod") for number in range(1, count + 1)]
    first: dict[str, Any] = pods[0]
    for part in ("containers", "volumes"):
        first["spec"][part] = [each for pod in pods for each in pod["spec"][part]]
    return first


# -- small things --------------------------------------------------------------------


@contextmanager
def _said_by_vault(doing: str) -> Iterator[None]:
    try:
        yield
    except (HvacError, requests.RequestException) as error:
        raise VaultError(
            f"Vault did not {doing}", seen=str(error)[:200], todo="See `labkit logs vault`."
        ) from error


def _to_the_end(work: Callable[[], None]) -> None:
    """Do ``work`` in a thread, so that an interrupt comes after it and not in its middle."""
    failures: list[BaseException] = []
    # Not the thread's own join: one that was interrupted takes the thread for ended.
    is_done = threading.Event()

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            is_done.set()

    interrupt: KeyboardInterrupt | None = None
    is_started = False
    while not is_done.is_set():
        try:
            if not is_started:
                threading.Thread(target=guarded, name="remove-lanes").start()
                is_started = True
            is_done.wait()
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt:
        raise interrupt
    if failures:
        raise failures[0]
