"""The Argo CD Vault Plugin, run as repo-server runs it: `generate` on a checkout.

It reads from the comparison's Vault with Kubernetes auth.  What it prints is the secret, so
it is run as a child with a pipe and not as a pod, whose output the node would keep in a log.
"""

from __future__ import annotations

import json
import stat

from labkit import vault
from labkit.alternatives.ground import (
    FIELD,
    IN_GIT,
    NAMESPACE,
    READERS,
    Ground,
    Ran,
    as_yaml,
    check,
    new_value,
    searcher,
)
from labkit.alternatives.model import MASK, Question, Seen
from labkit.alternatives.repository import Repository
from labkit.kube import parse_manifests
from labkit.paths import manifest

SECRET = KEY = "plugin"
FILE = "plugin.yaml"
_READER = READERS[KEY]
_HARMLESS = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "settings", "namespace": NAMESPACE},
    "data": {"colour": "blue"},
}
_PLANTED = {
    **_HARMLESS,
    "metadata": {"name": "planted", "namespace": NAMESPACE},
    "data": {"motto": f"<path:{vault.MOUNT}/data/{KEY}#{FIELD}>"},
}


def run(here: Ground) -> Seen:
    """Render, rotate, leak, seal.  Raises LabError for what is not so.

    1. Commit the placeholder; without a token nothing is rendered.
    2. Render with Kubernetes auth: the value is in the manifest, a token is in a file.
    3. Write a second value in Vault: the same commit renders to it, when somebody renders.
    4. Search a fresh clone; plant a placeholder in a ConfigMap.
    5. Leak the token from the file, then revoke it.
    6. Seal Vault: nothing is rendered, what is in the cluster stays.
    """
    first, second = new_value(), new_value()
    repository = here.repository("plugin")
    text = manifest(f"{IN_GIT}/{FILE}").read_text()
    repository.commit({FILE: text, "settings.yaml": as_yaml(_HARMLESS)}, "Where the password is")
    checkout = repository.clone("plugin-checkout")
    vault.write(here.vault, {FIELD: first}, key=KEY)
    refused = _generate(here, checkout, AVP_AUTH_TYPE="token")  # 1
    check(refused.code != 0, "the plugin needs a token or a login")

    rendered = _render(here, checkout)  # 2
    check(_password_in(rendered) == first, "the plain value is in the rendered manifest")
    here.sync_text(rendered.output)
    here.wait_value(SECRET, first)
    file = here.folder / ".avp" / "config.json"
    token = str(json.loads(file.read_text())["vault_token"])
    mode = stat.S_IMODE(file.stat().st_mode)

    vault.write(here.vault, {FIELD: second}, key=KEY)  # 3
    check(here.value_of(SECRET) == first, "nothing changes before somebody renders")
    again = _render(here, checkout)
    check(_password_in(again) == second, "the same commit renders to the new value")
    here.sync_text(again.output)
    here.wait_value(SECRET, second)
    count = len(checkout.commits)

    leaked = repository.clone("plugin-leaked")  # 4
    searched, found = leaked.search(searcher(first, second))
    check(not found, "no value is in the clone", str(found))
    repository.commit({"planted.yaml": as_yaml(_PLANTED)}, "A motto")
    checkout.pull()
    planted = _data_of(_render(here, checkout), "planted", "data")["motto"]
    check(planted == second, "a placeholder is filled in anywhere")

    thief = here.client_with(token)  # 5
    read = vault.read(thief, key=KEY)
    check(read == {FIELD: second}, "the token reads the value")
    ttl = int(thief.auth.token.lookup_self()["data"]["ttl"])
    denied = here.is_denied(token, "external")
    here.vault.auth.token.revoke(token)
    check(here.is_denied(token, KEY), "a revoked token reads nothing")

    with here.sealed_vault():  # 6
        sealed = _generate(here, checkout, VAULT_MAX_RETRIES="0")
        check(sealed.code != 0, "nothing is rendered while Vault is sealed")
        check(not sealed.output.strip(), "not a single manifest is rendered")
        check(here.value_of(SECRET) == second, "what is in the cluster stays")
    return {
        Question.IN_GIT: (
            f"{searched.objects} objects searched for both values in every spelling: none found; "
            f"the file says `{FIELD}: <{FIELD}>` and the path in an annotation.",
        ),
        Question.KEY: (
            f"without one, `generate` ends with “{refused.complaint}”.",
            f"after a login with Kubernetes auth (role {_READER}) the Vault token was in plain in "
            f"`~/.avp/config.json`, mode {mode:04o}.",
        ),
        Question.ROTATION: (
            f"{count} commit for 2 values: after the write in Vault the Secret kept the first "
            "until the same commit was rendered and applied again.",
        ),
        Question.LEAKED_REPOSITORY: (
            f"a fresh clone names {vault.MOUNT}/data/{KEY} and holds neither value.",
        ),
        Question.LEAKED_KEY: (
            f"the token from that file read the value for whoever has it, {ttl} s before its end; "
            f"{vault.MOUNT}/external was {'denied' if denied else 'readable too'}; revoked, it "
            "reads nothing.",
        ),
        Question.SEEN_BY: (
            f"`generate` printed the Secret with `{FIELD}: {MASK}` in plain, under `stringData` as "
            "in the file.",
            "a commit with the placeholder in a ConfigMap was rendered with the value in it.",
        ),
        Question.AWAY: (
            f"Vault sealed: “{sealed.complaint}”, and no manifest at all, though one of the "
            "folder's has no placeholder; the Secret kept its value.",
        ),
    }


def _generate(here: Ground, checkout: Repository, **variables: str) -> Ran:
    jwt = here.keep("jwt", here.kube.token(_READER, NAMESPACE, audiences=[vault.AUDIENCE]))
    settings = {
        "VAULT_ADDR": f"http://{vault.SERVICE}.{NAMESPACE}:8200",
        "AVP_TYPE": "vault",
        "AVP_AUTH_TYPE": "k8s",
        "AVP_K8S_ROLE": _READER,
        "AVP_K8S_TOKEN_PATH": str(jwt),
        **here.proxy,
    }
    words = ("generate", str(checkout.folder))
    return here.run("argocd-vault-plugin", *words, **(settings | variables))


def _render(here: Ground, checkout: Repository) -> Ran:
    done = _generate(here, checkout)
    check(done.code == 0, "the plugin renders with Kubernetes auth", done.complaint)
    return done


def _password_in(rendered: Ran) -> str:
    return _data_of(rendered, SECRET, "stringData")[FIELD]


def _data_of(rendered: Ran, name: str, part: str) -> dict[str, str]:
    for obj in parse_manifests(rendered.output, "what was rendered"):
        if obj["metadata"]["name"] == name:
            return dict(obj[part])
    return {}
