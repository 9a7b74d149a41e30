"""The lab's Git server as the course meets it: install it, fill it, clone from it.

The server itself is ``gitserver``, a workload like any other: here it is known by its Service
and spoken to with ordinary git.  What a learner's own git needs is said by ``gitconfig``;
what Argo CD makes of the repositories is left to others.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import urllib3

from labkit import git, gitconfig
from labkit.errors import ApiError, LabError, WaitTimeout
from labkit.kube import Kube, Object, has_ready_pod, load_manifests
from labkit.paths import manifest, write_private

NAMESPACE = "git"
SERVER = "git-server"
USER = "git"
BASE_URL = "http://git.git:3000"
PLATFORM = "platform"
"""The learner's repository."""
EXTERNAL_SECRETS = "external-secrets"
"""A mirror of what ESO's own repository has at ``TAG``: its chart and its CRDs."""
TAG = "v0.20.4"
_UNUSED = ("bitwarden-sdk-server", "v0.5.1")
_ARGOCD = "argocd"
_NOBODY = "External Secrets"
_LONG_AGO = "2025-01-01T00:00:00+0000"
"""Fixed, so that the mirror's commit has the same name in every lab."""


@dataclass(frozen=True)
class Door:
    """How the server is reached from this machine.

    ``credentials`` is where the user and the password are kept (0600), as git's credential
    store has them; ``proxy`` the file with the URL of the proxy that knows the cluster's
    Services (None: they can be reached as they are).
    """

    credentials: Path
    proxy: Path | None = None

    def password(self) -> str:
        """The password, or "" when there is none yet."""
        try:
            return unquote(urlsplit(self.credentials.read_text().strip()).password or "")
        except (OSError, ValueError):
            return ""

    def proxy_url(self) -> str:
        """The proxy's URL, its credential in it; "" when there is none."""
        return self.proxy.read_text().strip() if self.proxy and self.proxy.exists() else ""


def url(name: str) -> str:
    """The URL of the repository called ``name``."""
    return f"{BASE_URL}/{name}.git"


# -- the server -------------------------------------------------------------------------


def install(kube: Kube, door: Door, *, with_argocd: bool, timeout: float = 60.0) -> None:
    """Have the Git server running, with empty repositories where it had none; safe to repeat.

    ``with_argocd``: Argo CD gets the password, and the server may ask it to look at a push.
    That needs the namespace ``argocd``.  ``timeout`` is in seconds.  Raises WaitTimeout, and
    ApiError when the cluster refuses.
    """
    objects = load_manifests(manifest("git/git.yaml"))
    first = [obj for obj in objects if obj["kind"] == "Namespace"]
    for obj in first:
        kube.apply(obj)
    password = _keep_password(kube, door)
    kube.apply(_secret(SERVER, NAMESPACE, {"password": password}))
    for obj in objects:
        if obj not in first:
            kube.apply(obj)
    if with_argocd:
        for obj in load_manifests(manifest("git/argocd.yaml")):
            kube.apply(obj)
        kube.apply(_for_argocd(password))
    deployment = kube.resource("apps/v1", "Deployment")
    kube.wait(deployment, SERVER, NAMESPACE, has_ready_pod, awaited="ready", timeout=timeout)
    _wait_answering(door, timeout=timeout)


def is_there(kube: Kube) -> bool:
    """Whether the server is installed and ready."""
    try:
        return has_ready_pod(kube.get("apps/v1", "Deployment", SERVER, NAMESPACE))
    except ApiError:
        return False


def _keep_password(kube: Kube, door: Door) -> str:
    """The server's password: the one that is kept, else the cluster's, else a new one.

    git takes a line that was once refused out of the file, so the file may be without it.
    """
    password = door.password()
    if not password:
        known = kube.get("v1", "Secret", SERVER, NAMESPACE)
        data = ((known or {}).get("data") or {}).get("password", "")
        password = base64.b64decode(data).decode() or secrets.token_urlsafe(24)
        host = BASE_URL.removeprefix("http://").replace(":", "%3a")  # as git itself writes it
        write_private(door.credentials, f"http://{USER}:{password}@{host}\n")
    return password


def _secret(
    name: str, namespace: str, data: Mapping[str, str], labels: Mapping[str, str] | None = None
) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
        "stringData": dict(data),
    }


def _for_argocd(password: str) -> Object:
    """Argo CD's credentials for every repository of the server.

    Source: "Repository Credentials" in Argo CD's declarative setup.
    """
    return _secret(
        "repo-git",
        _ARGOCD,
        {"type": "git", "url": f"{BASE_URL}/", "username": USER, "password": password},
        {"argocd.argoproj.io/secret-type": "repo-creds"},
    )


def _wait_answering(door: Door, *, timeout: float) -> None:
    """Until the name leads to the server: a Service hears of its pods a moment after us."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            _git(door, "ls-remote", url(PLATFORM))
        except LabError as error:
            if shutil.which("git") is None:
                raise
            if time.monotonic() > deadline:
                raise WaitTimeout(
                    f"The Git server did not answer within {timeout:g} s",
                    seen=error.seen,
                    todo=f"See `kubectl -n {NAMESPACE} logs deployment/{SERVER}`.",
                ) from error
            time.sleep(0.1)
        else:
            return


# -- the repositories -------------------------------------------------------------------


def clone(door: Door, name: str, folder: Path) -> None:
    """Clone the repository called ``name`` into ``folder``, which must not be there yet.

    Raises LabError with git's own words.
    """
    _git(door, "clone", "--quiet", url(name), str(folder))


def empty(door: Door, name: str) -> None:
    """Make a repository empty again, for a lesson to be begun over: no branch, no history.

    git has no request for this, and the server refuses to lose ``main`` to a push.  Raises
    LabError when the server does not do it.
    """
    headers = urllib3.make_headers(basic_auth=f"{USER}:{door.password()}")
    try:
        with _pool(door.proxy_url()) as pool:
            answer = pool.request("DELETE", url(name), headers=headers, retries=False, timeout=10.0)
            status, said = answer.status, answer.data.decode(errors="replace").strip()
    except urllib3.exceptions.HTTPError as error:
        status, said = 0, type(error).__name__
    if status != 200:
        raise LabError(
            f"The repository {name} could not be made empty",
            seen=f"{status} {said}" if status else said,
            todo=f"See `kubectl -n {NAMESPACE} get pods`.",
        )


def _pool(proxy: str) -> urllib3.PoolManager:
    if not proxy:
        return urllib3.PoolManager()
    parts = urlsplit(proxy)
    known = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return urllib3.ProxyManager(proxy, proxy_headers=urllib3.make_headers(proxy_basic_auth=known))


def mirror_external_secrets(door: Door, assets: Path) -> bool:
    """Have ESO's chart and CRDs at ``TAG`` in their repository; False when they were there.

    ``assets`` is the folder that the pinned ESO module's ``chart`` and ``crds`` were put in.
    They are laid out as in ESO's own repository, so an Application may read that one instead.
    Raises LabError with git's own words.
    """
    there = url(EXTERNAL_SECRETS)
    if _git(door, "ls-remote", "--tags", there, TAG).strip():
        return False
    with tempfile.TemporaryDirectory(prefix="labkit-mirror-") as folder:
        tree = Path(folder)
        chart = tree / "deploy" / "charts" / "external-secrets"
        _copy(assets / "chart", chart)
        _copy(assets / "crds", tree / "deploy" / "crds")
        # The chart names one chart that is not in it, for a provider that is not switched on;
        # Helm renders nothing without it, and would look for it on the network.
        stub = chart / "charts" / _UNUSED[0]
        stub.mkdir(parents=True)
        text = "apiVersion: v2\nname: {}\nversion: {}\n".format(*_UNUSED)
        (stub / "Chart.yaml").write_text(text)
        for words in (
            ("init", "--quiet"),
            ("add", "--force", "."),
            ("commit", "--quiet", "--message", f"Chart and CRDs of {TAG}, from the Go module"),
            ("tag", TAG),
            ("push", "--quiet", "--force", "--atomic", there, "HEAD:refs/heads/main", TAG),
        ):
            _git(door, *words, folder=tree)
    return True


def _copy(source: Path, target: Path) -> None:
    """The files alone: the folders of a Go module may not be written to."""
    for path in source.rglob("*"):
        if path.is_file():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def _git(door: Door, *words: str, folder: Path | None = None) -> str:
    """Run git, with nothing of the user's settings; what it prints.  Raises LabError."""
    todo = (
        "`labkit status` says what runs; the server's log: "
        f"`kubectl -n {NAMESPACE} logs deployment/{SERVER}`."
    )
    return git.text(git.output(*words, folder=folder, env=_environment(door), todo=todo))


def _environment(door: Door) -> dict[str, str]:
    who = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", _NOBODY), ("EMAIL", "mirror@lab.invalid"), ("DATE", _LONG_AGO))
    }
    found = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.devnull,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        **who,
        **gitconfig.write([gitconfig.BRANCH, *gitconfig.credentials(BASE_URL, door.credentials)]),
    }
    if proxy := door.proxy_url():
        found["http_proxy"] = proxy
    return found
