"""External Secrets, run beside the others: the lab's own operator, on a store of its own."""

from __future__ import annotations

import time

from labkit import eso, vault
from labkit.alternatives.ground import (
    FIELD,
    IN_GIT,
    NAMESPACE,
    READERS,
    Ground,
    check,
    new_value,
    searcher,
)
from labkit.alternatives.model import Question, Seen
from labkit.evidence.witnesses import api_calls
from labkit.kube import Object, condition, parse_manifests
from labkit.paths import manifest

SECRET = KEY = "external"
FILE = "external.yaml"
_READER = READERS[KEY]


def run(here: Ground) -> Seen:
    """Sync, rotate, leak, seal.  Raises LabError for what is not so.

    1. Commit where the secret is, apply the clone: the operator makes the Secret.
    2. Write a second value in Vault: it arrives, and nobody commits or applies anything.
    3. Search a fresh clone, and look at what the store signs in with.
    4. Log in as the operator does, use that token, then revoke it.
    5. Seal Vault: the Secret stays and the ExternalSecret says why it is not renewed.
    6. Unseal it and write a third value: the operator goes on by itself.
    """
    began = time.time()
    first, second, third = new_value(), new_value(), new_value()
    repository = here.repository("external")
    repository.commit({FILE: manifest(f"{IN_GIT}/{FILE}").read_text()}, "Where the password is")
    checkout = repository.clone("external-checkout")
    vault.write(here.vault, {FIELD: first}, key=KEY)
    here.sync(checkout.folder)  # 1
    eso.wait_synced(here.kube, SECRET, NAMESPACE, timeout=here.timeout)
    here.wait_value(SECRET, first)

    vault.write(here.vault, {FIELD: second}, key=KEY)  # 2
    took = here.wait_value(SECRET, second)
    count = len(checkout.commits)

    leaked = repository.clone("external-leaked")  # 3
    searched, found = leaked.search(searcher(first, second))
    check(not found, "no value is in the clone", str(found))
    check(not here.files_hold(checkout, first, second), "no value is in the checkout")
    store = parse_manifests(leaked.show("HEAD", FILE), FILE)[0]
    auth = store["spec"]["provider"]["vault"]["auth"]
    check(list(auth) == ["kubernetes"], "the store names a ServiceAccount and no token", str(auth))

    jwt = here.kube.token(_READER, NAMESPACE, audiences=[vault.AUDIENCE])  # 4
    login = vault.login(here.vault, jwt, role=_READER)
    token, seconds = str(login["client_token"]), int(login["lease_duration"])
    check(vault.read(here.client_with(token), key=KEY) == {FIELD: second}, "a token reads it")
    check(here.is_denied(token, "plugin"), "it reads that one path")
    here.vault.auth.token.revoke(token)
    check(here.is_denied(token, KEY), "a revoked token reads nothing")
    reach = here.may_read_every_secret(*vault.READER)
    check(reach, "the operator may read every Secret")

    before = eso.warnings(here.kube, SECRET, NAMESPACE)
    with here.sealed_vault():  # 5
        _wait_complaint(here)
        here.until(
            lambda: bool(eso.last_warning(here.kube, SECRET, NAMESPACE, besides=before)),
            "the operator says what is wrong",
        )
        said = eso.last_warning(here.kube, SECRET, NAMESPACE, besides=before)
        here.sync(checkout.folder)
        check(here.value_of(SECRET) == second, "the Secret stays")
    vault.write(here.vault, {FIELD: third}, key=KEY)  # 6
    back = here.wait_value(SECRET, third)
    return {
        Question.IN_GIT: (
            f"{searched.objects} objects searched for both values in every spelling: none found.",
        ),
        Question.KEY: (
            f"the store's auth names the role {_READER} and a ServiceAccount, no token and no "
            f"Secret; a login as that one gave a Vault token for {seconds} s.",
            *_minted(here, began),
        ),
        Question.ROTATION: (
            f"{count} commit for 2 values; the second was in the Secret {took:.1f} s after the "
            "write (interval 2 s), with nothing applied in between.",
        ),
        Question.LEAKED_REPOSITORY: (
            f"a fresh clone names {vault.MOUNT}/{KEY} and the role {_READER}, and holds neither "
            "value.",
        ),
        Question.LEAKED_KEY: (
            f"such a token read {vault.MOUNT}/{KEY}; {vault.MOUNT}/plugin was denied; revoked, it "
            "reads nothing.",
            "asked, the API server says that the operator's ServiceAccount may list the Secrets of "
            "every namespace.",
        ),
        Question.SEEN_BY: (
            "the checkout that was applied holds no value; the Secret does, written by the "
            "operator.",
        ),
        Question.AWAY: (
            "Vault sealed: the Secret kept its value, the clone could be applied again, and an "
            f"event says “{_short(said)}”; unsealed, a third value arrived after {back:.1f} s.",
        ),
    }


def _wait_complaint(here: Ground) -> None:
    def is_unready(seen: Object | None) -> bool:
        return (condition(seen, "Ready") or {}).get("status") == "False"

    here.kube.wait(
        eso.EXTERNAL_SECRET,
        SECRET,
        NAMESPACE,
        is_unready,
        awaited="Ready=False",
        timeout=here.timeout,
    )


def _minted(here: Ground, began: float) -> tuple[str, ...]:
    """What the API server's audit log, where there is one, tells of the operator's tokens since
    ``began`` (unix seconds)."""
    operator = "system:serviceaccount:{}:{}".format(*vault.READER)
    calls = [
        call
        for call in api_calls(here.api_audit) or ()
        if call.is_about("serviceaccounts/token", NAMESPACE, _READER)
        and call.user == operator
        and call.asked >= began
    ]
    if not calls:
        return ()
    return (f"the API server's audit log has the operator asking for such tokens: {calls[-1]}.",)


def _short(said: str) -> str:
    """An event's reason, and the provider's own words at the end of its message."""
    reason, _, message = " ".join(said.split()).partition(": ")
    return f"{reason}: … {message[-120:].rpartition('* ')[2]}"
