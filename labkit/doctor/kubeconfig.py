"""The user's own kubeconfig: is there one, is it whole, does its server answer?

The embedded lab has a kubeconfig of its own and never touches this one, so whatever is
wrong here is a note.  No credential is read out, and none is sent: the server is asked for
its version by nobody.  Signing in is `labkit.kube`'s business.
"""

from __future__ import annotations

import http.client
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment

import yaml

from labkit import launch
from labkit.doctor.finding import Remark, note, ok
from labkit.doctor.network import is_excepted, mask
from labkit.doctor.patience import Asked
from labkit.paths import state_root

_ANSWER = 1.5  # seconds
_LONGEST = 4096  # bytes of an answer
_UNTOUCHED = "the embedded lab never touches it"
_KEEP = "Nothing has to be done for the embedded lab."


def kubeconfig() -> list[Remark]:
    """What a kubectl of the user's would talk to, outside of a lab."""
    named = os.environ.get("KUBECONFIG", "")
    places = [Path(part) for part in named.split(os.pathsep) if part]
    if not places and os.environ.get("HOME"):
        places = [Path(os.environ["HOME"], ".kube", "config")]
    there = [place for place in places if os.access(place, os.F_OK)]
    if len(places) == 1 and (own := _lab_of(places[0])):
        return [_of_a_lab(own)]
    if not there:
        if not named:
            return [ok(f"none, and none is needed: {_UNTOUCHED}")]
        fix = f"Correct it, or `unset KUBECONFIG`. {_KEEP}"
        return [note(f"KUBECONFIG is {named}: no such file", fix)]
    merged = _Merged()
    remarks = []
    for place in there:
        wrong = merged.add(place)
        if wrong:
            fix = f"Mend it, or move it away: kubectl does not work with it. {_KEEP}"
            remarks.append(note(f"{place} {wrong}", fix))
    shown = os.pathsep.join(map(str, there))
    return remarks or [_judge(merged, shown)]


def _lab_of(path: Path) -> str:
    """The lab whose own kubeconfig this is; "" for anyone else's."""
    folder = path.absolute().parent
    is_own = folder.parent == state_root().absolute() and path.name == "kubeconfig"
    return folder.name if is_own else ""


def _of_a_lab(name: str) -> Remark:
    if name in launch.names() and launch.running(name) is not None:
        return ok(f"the lab {name}'s own")
    seen = f"KUBECONFIG is that of the lab {name}, which does not run"
    return note(seen, f"`labkit up --name {name}`, or `unset KUBECONFIG`.")


@dataclass
class _Merged:
    """Several kubeconfigs as one: for each name, the first that has it counts.

    Source: kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig.
    """

    current: str = ""
    contexts: dict[str, dict[str, Any]] = field(default_factory=dict)
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, path: Path) -> str:
        """What is wrong with the file, in a few words; "" when it was taken in."""
        try:
            content = yaml.safe_load(path.read_text())
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        except (yaml.YAMLError, UnicodeDecodeError):  # whose words may quote a secret
            return "is not YAML"
        if not isinstance(content, dict):
            return "is no kubeconfig" if content else ""
        try:
            for section, kind, into in (
                ("contexts", "context", self.contexts),
                ("clusters", "cluster", self.clusters),
            ):
                for entry in content.get(section) or []:
                    into.setdefault(str(entry["name"]), dict(entry.get(kind) or {}))
        except (TypeError, KeyError, ValueError, AttributeError):
            return "is no kubeconfig: its contexts or clusters are no list of names"
        self.current = self.current or str(content.get("current-context") or "")
        return ""


def _judge(merged: _Merged, shown: str) -> Remark:
    known = ", ".join(sorted(merged.contexts)) or "none"
    choose = f"`kubectl config use-context NAME` (there are: {known}). {_KEEP}"
    if not merged.current:
        return note(f"{shown} has no current context", choose)
    context = merged.contexts.get(merged.current)
    if context is None:
        seen = f"{shown}: its current context {merged.current} does not exist"
        return note(seen, choose)
    name = str(context.get("cluster") or "")
    cluster = merged.clusters.get(name)
    if cluster is None:
        seen = (
            f"{shown}: its context {merged.current} names the cluster {name!r}, which is not there"
        )
        return note(seen, f"`kubectl config set-cluster`, or another context. {_KEEP}")
    server = str(cluster.get("server") or "")
    seen = f"{shown}, context {merged.current}"
    if cluster.get("proxy-url") or _goes_through_a_proxy(server):
        return ok(f"{seen}: its server is behind a proxy, and was not asked; {_UNTOUCHED}")
    wrong = _ask(server)
    if not wrong:
        return ok(f"{seen}: its server answers; {_UNTOUCHED}")
    fix = f"Start that cluster, or choose another context. {_KEEP}"
    return note(f"{seen}: its server {mask(server)} {wrong}", fix)


def _goes_through_a_proxy(server: str) -> bool:
    url = _split(server)
    if url is None or url.hostname in {"localhost", "127.0.0.1", "::1"}:  # as client-go has it
        return False
    found = getproxies_environment()
    return url.scheme in found and not is_excepted(url.hostname or "", found.get("no", ""))


def _split(server: str) -> SplitResult | None:
    """The parts of an address; None when it is none."""
    try:
        url = urlsplit(server)
        _ = url.port
    except ValueError:
        return None
    return url if url.hostname and url.scheme in {"http", "https"} else None


def _ask(server: str) -> str:
    """What is wrong with the server, in a few words; "" when a Kubernetes API answers there."""
    url = _split(server)
    if url is None:
        return "is no address"
    try:
        answer = Asked(lambda: _version(url)).wait(_ANSWER)
    except TimeoutError:
        return f"does not answer within {_ANSWER:g} s"
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", "") or type(error).__name__
        return f"does not answer ({reason})"
    # Its version, or its words of a refusal: whoever asks has not signed in.
    is_api = b'"gitVersion"' in answer or b'"Status"' in answer
    return "" if is_api else "answers, but not as a Kubernetes API does"


def _version(url: SplitResult) -> bytes:
    """The answer to an anonymous question for the version."""
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        # Whoever answers is told nothing and believed nothing.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            url.hostname or "", url.port, timeout=_ANSWER, context=context
        )
    else:
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=_ANSWER)
    try:
        connection.request("GET", f"{url.path.rstrip('/')}/version")
        return connection.getresponse().read(_LONGEST)
    finally:
        connection.close()
