"""Follow Argo CD while it deploys: a line each time that an Application changes its state.

What an Application deploys is ``apptree``'s; here it is one word for sync and one for health,
and which wave it belongs to, so that the order becomes visible.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from labkit import argocd
from labkit.argocd import Application
from labkit.kube import Kube, Object

WAVE = "argocd.argoproj.io/sync-wave"
ROOT = "platform"
_STILL = 30.0  # seconds with nothing new: it is stuck, and somebody has to mend it


def is_green(kube: Kube) -> bool:
    """Whether the root Application is there, and every Application Synced and Healthy."""
    found = argocd.applications(kube)
    return any(app.name == ROOT for app in found) and all(app.is_green for app in found)


def is_there(kube: Kube, name: str) -> bool:
    """Whether Argo CD has an Application of that name."""
    return any(app.name == name for app in argocd.applications(kube))


def watch(
    kube: Kube,
    *,
    timeout: float = 150.0,
    told: Callable[[str], None] = print,
) -> bool:
    """Tell of each change until everything is green; whether that came to be.

    Ends at once where there is no root Application, and when nothing has changed for half a
    minute.  ``timeout`` is in seconds.
    """
    begun = last = time.monotonic()
    before: dict[str, str] = {}
    while True:
        now = {obj["metadata"]["name"]: _line(obj) for obj in _listed(kube)}
        if ROOT not in now:
            told(f"There is no Application {ROOT} here yet.")
            return False
        for name in sorted(now, key=lambda each: (now[each], each)):
            if now[name] != before.get(name):
                last = time.monotonic()
                told(f"{last - begun:5.1f} s  {now[name]}")
        if is_green(kube):
            return True
        before = now
        if time.monotonic() - begun > timeout or time.monotonic() - last > _STILL:
            told("Nothing moves any more: " + "; ".join(map(str, _waiting(kube))))
            return False
        for _ in kube.watch(argocd.APPLICATION.path(argocd.NAMESPACE), idle=0.3):
            pass


def _listed(kube: Kube) -> list[Object]:
    return kube.list(argocd.API, "Application", argocd.NAMESPACE)


def _line(obj: Object) -> str:
    app = argocd.read(obj)
    wave = (obj["metadata"].get("annotations") or {}).get(WAVE)
    where = f"wave {wave}" if wave else "root  "
    return f"{where}  {app.name:22}{app.sync}, {app.health}"


def _waiting(kube: Kube) -> list[Application]:
    return [app for app in argocd.applications(kube) if not app.is_green]
