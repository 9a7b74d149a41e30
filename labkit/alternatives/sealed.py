"""Sealed Secrets, run: the real controller in the cluster, the real `kubeseal` outside of it.

`kubeseal` is only ever given a certificate or a key in a file: it works offline, with no
kubeconfig, exactly as whoever found that file could use it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from labkit.alternatives.ground import (
    CONTROLLER_NAMESPACE,
    FIELD,
    NAMESPACE,
    Ground,
    Ran,
    as_yaml,
    check,
    new_value,
    searcher,
)
from labkit.alternatives.model import MASK, Question, Seen
from labkit.kube import Object, condition, parse_manifests

SECRET = "sealed"
FILE = "sealed.yaml"
API = "bitnami.com/v1alpha1"
CONTROLLER = "sealed-secrets-controller"
_KEYS = "sealedsecrets.bitnami.com/sealed-secrets-key=active"


def run(here: Ground) -> Seen:
    """Seal, rotate, leak, lose.  Raises LabError for what is not so.

    1. Fetch the certificate through the API server, seal the first value, commit, apply.
    2. Seal and commit the second: the cluster keeps the first until that is applied too.
    3. Search a fresh clone; try to open it with a key of one's own, and under another name.
    4. Leak the private key: open both commits offline.
    5. Stop the controller, apply a third value, start it again.
    6. Lose the key: what is in Git is worth nothing to a new controller.
    """
    certificate = here.keep("certificate.pem", _certificate(here))  # 1
    first, second, third = new_value(), new_value(), new_value()
    repository = here.repository("sealed")
    repository.commit({FILE: _seal(here, certificate, first)}, "The password, sealed")
    checkout = repository.clone("sealed-checkout")
    here.sync(checkout.folder)
    unsealed = here.wait_value(SECRET, first)

    repository.commit({FILE: _seal(here, certificate, second)}, "Another password, sealed")  # 2
    check(here.value_of(SECRET) == first, "nothing changes before a sync")
    checkout.pull()
    here.sync(checkout.folder)
    here.wait_value(SECRET, second)

    leaked = repository.clone("sealed-leaked")  # 3
    searched, found = leaked.search(searcher(first, second))
    check(not found, "no value is in the clone", str(found))
    check(not here.files_hold(checkout, first, second), "no value is in the checkout")
    newest = leaked.show("HEAD", FILE)
    refused = _unseal(here, newest, here.keep("own.pem", _own_key()))
    check(refused.code != 0, "a key of one's own opens nothing")
    elsewhere = _refusal(here, _renamed(newest, "elsewhere"))

    keys = _private_keys(here)  # 4
    file = here.keep("leaked.pem", keys[-1])
    opened = [_opened(_unseal(here, leaked.show(commit, FILE), file)) for commit in leaked.commits]
    check(opened == [first, second], "the key opens the whole history")

    reach = here.may_read_every_secret(CONTROLLER_NAMESPACE, CONTROLLER)
    check(reach, "the controller may read every Secret")

    with _stopped(here):  # 5
        check(here.value_of(SECRET) == second, "the Secret stays without a controller")
        here.sync_text(_seal(here, certificate, third))
        check(not _is_observed(here), "nobody looks at a SealedSecret")
        check(here.value_of(SECRET) == second, "a change waits for the controller")
    waited = here.wait_value(SECRET, third)

    with _stopped(here):  # 6
        _delete_keys(here)
        for kind, api in (("SealedSecret", API), ("Secret", "v1")):
            here.kube.delete(api, kind, SECRET, NAMESPACE)
    lost = _refusal(here, newest)
    return {
        Question.IN_GIT: (
            f"{searched.objects} objects searched for both values in every spelling: none found. "
            f"The field's name, {FIELD}, is readable beside {_length(newest)} characters.",
        ),
        Question.KEY: (
            f"{len(keys)} Secret of type kubernetes.io/tls in the namespace "
            f"{CONTROLLER_NAMESPACE}, labelled `{_KEYS}`; the certificate came from the "
            "controller's Service through the API server.",
        ),
        Question.ROTATION: (
            f"{len(leaked.commits)} commits for 2 values, each sealed anew with `kubeseal --cert`; "
            f"applied, the first was a Secret after {unsealed:.1f} s.",
        ),
        Question.LEAKED_REPOSITORY: (
            f"`kubeseal --recovery-unseal` with a key of one's own: “{refused.complaint}”.",
            f"applied under another name, the controller refuses it: “{elsewhere}”.",
        ),
        Question.LEAKED_KEY: (
            "with the private key in a file, `kubeseal --recovery-unseal` opened both commits "
            f"offline, without the cluster ({FIELD}: {MASK}, twice, both right).",
            "asked, the API server says that the controller's ServiceAccount may list the Secrets "
            "of every namespace.",
        ),
        Question.SEEN_BY: (
            "`kubeseal` was given the plain value on its standard input; the Secret in the "
            "cluster holds it; the checkout and the clone do not.",
        ),
        Question.AWAY: (
            "with 0 replicas the Secret kept its value and a third one waited; with 1 replica "
            f"again it was there after {waited:.1f} s.",
            f"with the key deleted, a new controller says of the same commit: “{lost}”.",
        ),
    }


# -- kubeseal ----------------------------------------------------------------------------


def _certificate(here: Ground) -> str:
    path = "/v1/cert.pem"
    return here.kube.service("GET", CONTROLLER_NAMESPACE, CONTROLLER, "http", path).decode()


def _seal(here: Ground, certificate: Path, value: str) -> str:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": NAMESPACE},
        "stringData": {FIELD: value},
    }
    words = ("--cert", str(certificate), "--format", "yaml")
    done = here.run("kubeseal", *words, given=json.dumps(secret))
    check(done.code == 0, "kubeseal seals with a certificate alone", done.complaint)
    return done.output


def _unseal(here: Ground, sealed: str, key: Path) -> Ran:
    words = ("--recovery-unseal", "--recovery-private-key", str(key), "--format", "yaml")
    return here.run("kubeseal", *words, given=sealed)


def _opened(done: Ran) -> str:
    check(done.code == 0, "the private key opens what was sealed for it", done.complaint)
    (secret,) = parse_manifests(done.output, "kubeseal's output")
    return base64.b64decode(secret["data"][FIELD]).decode()


def _own_key() -> str:
    """A good private key that nothing was sealed for."""
    return (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


def _renamed(sealed: str, name: str) -> str:
    (obj,) = parse_manifests(sealed, FILE)
    obj["metadata"]["name"] = name
    obj["spec"]["template"]["metadata"]["name"] = name
    return as_yaml(obj)


def _length(sealed: str) -> int:
    (obj,) = parse_manifests(sealed, FILE)
    return len(obj["spec"]["encryptedData"][FIELD])


# -- the controller ----------------------------------------------------------------------


def _private_keys(here: Ground) -> list[str]:
    found = here.kube.list("v1", "Secret", CONTROLLER_NAMESPACE, labels=_KEYS)
    check(found, "the private key is a Secret")
    return [base64.b64decode(secret["data"]["tls.key"]).decode() for secret in found]


def _delete_keys(here: Ground) -> None:
    for secret in here.kube.list("v1", "Secret", CONTROLLER_NAMESPACE, labels=_KEYS):
        here.kube.delete("v1", "Secret", secret["metadata"]["name"], CONTROLLER_NAMESPACE)


def _refusal(here: Ground, sealed: str) -> str:
    """Apply a SealedSecret that cannot be opened; what the controller says of it."""
    (obj,) = parse_manifests(sealed, FILE)
    here.kube.apply(obj)
    name = obj["metadata"]["name"]

    def is_refused(seen: Object | None) -> bool:
        return (condition(seen, "Synced") or {}).get("status") == "False"

    seen = here.kube.wait(
        here.kube.resource(API, "SealedSecret"),
        name,
        NAMESPACE,
        is_refused,
        awaited="refused (Synced=False)",
        timeout=here.timeout,
    )
    check(here.value_of(name) is None, f"there is no Secret {name}")
    return str((condition(seen, "Synced") or {}).get("message", ""))


def _is_observed(here: Ground) -> bool:
    found = here.kube.get(API, "SealedSecret", SECRET, NAMESPACE) or {}
    observed = (found.get("status") or {}).get("observedGeneration")
    return bool(observed == found["metadata"]["generation"])


@contextmanager
def _stopped(here: Ground) -> Iterator[None]:
    """No controller meanwhile; one again afterwards."""
    _scale(here, 0)
    here.until(lambda: not _pods(here), "the controller is gone")
    yield
    _scale(here, 1)


def _scale(here: Ground, replicas: int) -> None:
    body: Object = {"spec": {"replicas": replicas}}
    here.kube.patch("apps/v1", "Deployment", CONTROLLER, body, CONTROLLER_NAMESPACE)


def _pods(here: Ground) -> list[Object]:
    return here.kube.list("v1", "Pod", CONTROLLER_NAMESPACE)
