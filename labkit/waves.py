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

ROOT = "platform"
_STILL = 30.0  # seconds with nothing new: it is stuck, and somebody has to mend it


def is_green(kube: Kube) -> bool:
    """Whether the root Application is there, and every Application Synced and Healthy."""
    return _is_green(argocd.applications(kube))


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
        listed = kube.list(argocd.API, "Application", argocd.NAMESPACE)
        apps = [argocd.read(obj) for obj in listed]
        now = {app.name: _line(app, obj) for app, obj in zip(apps, listed, strict=True)}
        if ROOT not in now:
            told(f"There is no Application {ROOT} here yet.")
            return False
        for name in sorted(now, key=lambda each: (now[each], each)):
            if now[name] != before.get(name):
                last = time.monotonic()
                told(f"{last - begun:5.1f} s  {now[name]}")
        if _is_green(apps):
            return True
        before = now
        if time.monotonic() - begun > timeout or time.monotonic() - last > _STILL:
            waiting = (str(app) for app in apps if not app.is_green)
            told("Nothing moves any more: " + "; ".join(waiting))
            return False
        for _ in kube.watch(argocd.APPLICATION.path(argocd.NAMESPACE), idle=0.3):
            pass


def _is_green(apps: list[Application]) -> bool:
    return any(app.name == ROOT for app in apps) and all(app.is_green for app in apps)


def _line(app: Application, obj: Object) -> str:
    wave = (obj["metadata"].get("annotations") or {}).get(argocd.WAVE)
    where = f"wave {wave}" if wave else "root  "
    return f"{where}  {app.name:22}{app.sync}, {app.health}"
