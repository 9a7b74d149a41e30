"""The main job without a browser: from Vault to the page, then one rotation.

It narrates; the work is ``workloads``' and ``journey``'s.
"""

from __future__ import annotations

from collections.abc import Callable

from labkit import app as demo
from labkit import vault
from labkit.errors import LabError
from labkit.journey import Journey
from labkit.lab import Lab
from labkit.workloads import first_values, new_password


def walk(lab: Lab, *, say: Callable[[str], None], forced: bool = True) -> Journey:
    """Walk the whole way once and return the rotation's journey.

    Raises LabError when the page does not show the value that was written.
    """
    if lab.position.lesson is not None and lab.app.pod() is None:
        raise LabError(
            "The tour needs the whole way, from Vault to the page",
            seen=f"the lab is in lesson {lab.position.lesson:02}, and the app is not deployed",
            todo="`labkit reset` brings everything back; what you made in the lesson goes.",
        )
    say(
        f"1. {lab.engine.title} holds {vault.MOUNT}/{vault.KEY}: `{lab.engine.program} kv get "
        f"-mount={vault.MOUNT} {vault.KEY}`"
    )
    current = vault.read(lab.vault)
    if current is None:
        current = first_values()
        vault.write(lab.vault, current)
    shown = lab.app.wait_answering(timeout=60.0)
    say(f"2. ESO wrote the Secret {demo.SECRET}: `kubectl -n {demo.NAMESPACE} get externalsecret`")
    sources: list[dict[str, str]] = list((shown.get("sources") or {}).values())
    source = sources[0] if sources else {}
    say(
        f"3. The app read {source.get('path', '/secrets/credentials')}; its page is at "
        f"{lab.app.url}, version {shown['version']}"
    )
    fresh = {**current, "password": new_password()}
    say("4. Now the password changes in Vault, and nowhere else:")
    walked = lab.journey(fresh, forced=forced, timeout=90.0, client="labkit-tour")
    if lab.app.shows("db_password") != fresh["password"]:
        raise LabError(
            "The page does not show the password that was written to Vault",
            seen=f"version {lab.app.credentials()['version']}",
            todo="Somebody else rotated it at the same moment? Run the tour again.",
        )
    say(str(walked))
    return walked
