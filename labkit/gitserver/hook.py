"""The repositories' ``post-receive`` hook: ask Argo CD to look at once.

Argo CD asks Git every minute by itself.  With the pod's own ServiceAccount this finds the
Applications whose source is the repository that was pushed to, and sets the annotation which
makes Argo CD look at them now; what it prints is seen by whoever pushes.  Nothing here can
fail a push: what was received is there already.

A script of its own (``python -I -S hook.py``), with nothing but the standard library.

Source: ``AnnotationKeyRefresh`` in ``pkg/apis/application/v1alpha1`` of Argo CD; "Accessing
the Kubernetes API from a Pod" in Kubernetes' documentation.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

APPLICATIONS = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications"
REFRESH = {"metadata": {"annotations": {"argocd.argoproj.io/refresh": "normal"}}}
TIMEOUT = 3.0  # seconds for each call; the pusher waits
_NOBODY = "Argo CD was not asked to look"


class NotAsked(Exception):
    """Argo CD could not be asked; the text says why."""


class Api:
    """The Kubernetes API as a pod reaches it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        folder = env.get("SERVICE_ACCOUNT_DIR", "")
        host, port = env.get("KUBERNETES_SERVICE_HOST"), env.get("KUBERNETES_SERVICE_PORT")
        if not (folder and host and port):
            raise NotAsked("this server runs in no cluster")
        try:
            self._token = (Path(folder) / "token").read_text().strip()
            context = ssl.create_default_context(cafile=f"{folder}/ca.crt")
        except OSError as error:
            raise NotAsked(f"the pod has no ServiceAccount token ({error.strerror})") from error
        self._connection = http.client.HTTPSConnection(
            host, int(port), timeout=TIMEOUT, context=context
        )

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The decoded answer; None when there is no such thing.  Raises NotAsked."""
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        try:
            self._connection.request(
                method, path, None if body is None else json.dumps(body), headers
            )
            answer = self._connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise NotAsked(f"the Kubernetes API did not answer ({error})") from error
        if answer.status == 404:
            return None
        if answer.status in (401, 403):
            raise NotAsked("it is not installed here, or this server may not see its Applications")
        if answer.status >= 400:
            raise NotAsked(f"the Kubernetes API answered {answer.status} {answer.reason}")
        return json.loads(data)


def same(one: str, other: str) -> bool:
    """Whether two URLs mean one repository of the cluster's."""
    return _plain(one) == _plain(other)


def _plain(url: str) -> tuple[str, int | None, str]:
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").removesuffix(".cluster.local"), parts.port
    except ValueError:
        return url, None, ""
    return host.removesuffix(".svc"), port, parts.path.strip("/").removesuffix(".git")


def sources(application: Mapping[str, Any]) -> Iterator[str]:
    """The repositories that an Application reads."""
    spec = application.get("spec") or {}
    for source in (spec.get("source") or {}, *(spec.get("sources") or ())):
        yield str(source.get("repoURL", ""))


def ask(env: Mapping[str, str]) -> str:
    """Ask Argo CD to look at every Application of the repository; one line on what was asked."""
    url = env.get("REPOSITORY_URL", "")
    asked: list[str] = []
    try:
        api = Api(env)
        found = api.call("GET", APPLICATIONS)
        if found is None:
            return f"{_NOBODY}: it is not installed here"
        for application in found["items"]:
            name = str(application["metadata"]["name"])
            is_of_it = any(same(url, source) for source in sources(application))
            # One that is not there any more has just been deleted.
            if is_of_it and api.call("PATCH", f"{APPLICATIONS}/{quote(name)}", REFRESH):
                asked.append(name)
    except NotAsked as error:
        before = f"Argo CD looks at: {', '.join(asked)}; at no more" if asked else _NOBODY
        return f"{before}: {error}"
    if not asked:
        return "Argo CD has no Application of this repository yet"
    return f"Argo CD looks at: {', '.join(asked)}"


def main() -> int:
    sys.stdin.read()  # which refs moved; every Application of the repository is asked
    try:
        line = ask(os.environ)
    except Exception as error:
        line = f"{_NOBODY}: {type(error).__name__}: {error}"
    print(" ".join(line.split()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
