"""Sign in to a Vault that set itself up: there is no root token to be kept, or lost.

Where Vault is declared in Git (``manifests/07-gitops/vault``) it initialises itself, and
its administrator is whoever may have a token of one ServiceAccount: Kubernetes decides.
This turns that right into a Vault token.  Keeping it (0600) is left to the caller, and
bringing such a Vault up to whatever applies the manifests.
"""

from __future__ import annotations

import time
from typing import cast

from labkit import vault
from labkit.errors import ApiError, VaultError
from labkit.kube import Kube

ACCOUNT = ("vault", "vault-admin")  # namespace, ServiceAccount
ROLE = "admin"
TTL = 12 * 3600  # seconds: what the role grants


def login(kube: Kube, *, timeout: float = 60.0) -> str:
    """A token of Vault's administrator, good for ``TTL`` seconds.

    Waits at most ``timeout`` seconds until Vault has set itself up.  Raises VaultError
    when it does not, when ``kube``'s identity may not have a token of the ServiceAccount
    ``vault-admin``, and when Vault refuses that one.
    """
    wait_serving(kube, timeout=timeout)
    auth = vault.login(vault.open_client(kube), _proof(kube), role=ROLE)
    return cast(str, auth["client_token"])


def wait_serving(kube: Kube, *, timeout: float = 60.0) -> None:
    """Wait until Vault serves requests; then its own set-up is done.

    It answers nobody before all requests of its configuration are done.  ``timeout`` is
    in seconds.  Raises VaultError with the state it was last seen in.
    """
    client = vault.open_client(kube)
    deadline = time.monotonic() + timeout
    seen = ""
    while True:
        try:
            if vault.is_active(client):
                return
            seen = "it is sealed, or not initialised"
        except VaultError as error:  # it is on its way
            seen = error.seen
        if time.monotonic() > deadline:
            raise VaultError(
                f"Vault did not set itself up within {timeout:g} s",
                seen=seen,
                todo=f"It tries once in a pod's life, and refuses afterwards. Mend what is in its "
                f"configuration, delete the pod {vault.POD}, and read the new one's log: "
                f"`kubectl -n {vault.NAMESPACE} logs -f {vault.POD}`.",
            )
        time.sleep(0.05)


def _proof(kube: Kube) -> str:
    namespace, account = ACCOUNT
    try:
        return kube.token(account, namespace, audiences=[vault.AUDIENCE])
    except ApiError as error:
        raise VaultError(
            "Nobody can sign in as Vault's administrator",
            seen=error.seen,
            todo=f"It takes the ServiceAccount {account} in the namespace {namespace}, and the "
            "right to create tokens of it.",
        ) from error
