"""Who reads and what is read, by name, and the line in a terminal that makes the same read.

Words only: ``access`` does the reading.
"""

from __future__ import annotations

from dataclasses import dataclass

from labkit import app, eso, vault


@dataclass(frozen=True)
class Identity:
    """Who reads: a ServiceAccount, a Vault token with one policy, or the learner.

    ``kind`` is ``account``, ``token`` or ``learner``; ``name`` the ServiceAccount's or the
    policy's.
    """

    kind: str
    name: str = ""
    namespace: str = ""

    @property
    def title(self) -> str:
        if self.kind == "account":
            return f"{self.namespace}/{self.name}"
        return f"policy {self.name}" if self.kind == "token" else "your kubeconfig"

    @property
    def about(self) -> str:
        return {"account": "ServiceAccount", "token": "Vault token", "learner": "you"}[self.kind]

    def __str__(self) -> str:
        if self.kind == "account":
            return f"ServiceAccount {self.title}"
        return f"Vault token with {self.title}" if self.kind == "token" else self.title


@dataclass(frozen=True)
class Thing:
    """What is read: a path of Vault's API, one Kubernetes Secret, or (no ``name``) all
    Secrets of a namespace."""

    path: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def is_in_vault(self) -> bool:
        return bool(self.path)

    @property
    def title(self) -> str:
        return self.path or f"{self.namespace}/{self.name or '*'}"

    @property
    def api_path(self) -> str:
        """The path of the Kubernetes API.  Written out: discovery as somebody else would be
        one more thing that can be denied."""
        tail = f"/{self.name}" if self.name else ""
        return f"/api/v1/namespaces/{self.namespace}/secrets{tail}"

    @property
    def about(self) -> str:
        if self.is_in_vault:
            return "Vault path"
        return "Kubernetes Secret" if self.name else "all Secrets of the namespace"


LEARNER = Identity("learner")
IDENTITIES = (
    Identity("account", vault.READER[1], vault.READER[0]),
    Identity("account", "default", app.NAMESPACE),
    Identity("account", "vault", vault.NAMESPACE),
    LEARNER,
    Identity("token", "root"),
    Identity("token", vault.POLICY),
    Identity("token", "default"),
)
THINGS = (
    Thing(path=f"{vault.MOUNT}/data/{vault.KEY}"),
    Thing(path=f"{vault.MOUNT}/data/another_app"),
    Thing(namespace=app.NAMESPACE, name=app.SECRET),
    Thing(namespace=eso.NAMESPACE),
)


# -- the same in a terminal --------------------------------------------------------------


def command(identity: Identity, thing: Thing, *, role: str, engine: vault.Engine) -> str:
    """Lines that make the same read; they show no value and put no token on a command line."""
    if not thing.is_in_vault:
        what = f"secret {thing.name}" if thing.name else "secrets"
        line = f"kubectl -n {thing.namespace} get {what}"
        if identity.kind == "account":
            return f"{line} --as=system:serviceaccount:{identity.namespace}:{identity.name}"
        if identity.kind == "learner":
            return line
        return (
            "server=$(kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}')\n"
            "kubectl get configmap kube-root-ca.crt -o jsonpath='{.data.ca\\.crt}' > ca.crt\n"
            f"{_create(identity, engine)} | sed 's/^/Authorization: Bearer /' |\n"
            "  curl -s -o /dev/null -w '%{http_code}\\n' --cacert ca.crt -H @- "
            f'"$server{thing.api_path}"'
        )
    if identity.kind == "learner":
        return f"curl -s -o /dev/null -w '%{{http_code}}\\n' {vault.ADDRESS}/v1/{thing.path}"
    if identity.kind == "token":
        get = _create(identity, engine)
    else:
        get = (
            f"kubectl -n {identity.namespace} create token {identity.name} "
            f"--audience={vault.AUDIENCE} |\n"
            f"  {engine.program} write -field=token auth/kubernetes/login role={role} jwt=-"
        )
    # In two steps: with an empty variable the program would take the lab's root token.
    return (
        f"token=$({get}) &&\n"
        f"  {engine.token_variable}=$token {engine.program} read {thing.path} > /dev/null && "
        "echo allowed"
    )


def _create(identity: Identity, engine: vault.Engine) -> str:
    alone = "" if identity.name == "default" else " -no-default-policy"
    return f"{engine.program} token create -policy={identity.name}{alone} -ttl=1m -field=token"
