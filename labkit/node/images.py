"""From an image's name to the local program that stands for it.

A node without a container engine cannot unpack an image, so a table says what runs in
its place: a program of the catalogue, this Python, or something of the user's own.  Tags
and digests do not matter.  How a container is put together from a row is ``kitchen``'s
part; an image that has no row is refused with a list of those that have one.

Users add rows in ``images.toml`` in the state folder, or in the file ``LABKIT_IMAGES``:

    ["ghcr.io/me/shop"]
    program = ["/home/me/shop/serve", "--quiet"]   # how it begins, always
    args = ["--listen=127.0.0.1:{port:8080}"]      # in place of the image's CMD
    env = { LOG_LEVEL = "info" }

``{port:N}`` is the loopback port behind containerPort N.  A program that listens where
``PORT`` says, or whose arguments say ``:N`` for a declared containerPort, needs no help.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit import programs
from labkit.errors import LabError, UsageError
from labkit.node.environment import STANDARD_PATH

_KEYS = frozenset({"program", "args", "env"})


@dataclass(frozen=True)
class Image:
    """One row.

    ``program`` is what the image always begins with; its first word is a path, a name on
    PATH, or ``lab:NAME`` for a program of the catalogue.  ``place`` is where that program
    appears in a container's own file system (only where there is one), ``copies`` are other
    places of it.  ``tools`` are programs that it calls: where each appears, and which it is, as
    ``program`` says it.  ``args`` are used when the container gives none.  ``added`` maps a first
    argument to arguments that the image's entrypoint adds after all others.  ``files`` maps
    a file in the container to the variable that its entrypoint fills it from.
    ``port_flags`` are options whose value is a port to listen on, as ``N`` or ``:N``;
    ``own_ports`` maps a first argument to such options with the value that the program takes
    when it is not given one; ``fixed_ports`` to ports that it listens on whatever it is told.
    ``without_token_path`` are variables that it needs where a kubeconfig stands in for the
    token's fixed place.  ``shells`` are programs that can be the image's own ``sh``: the first
    that is on PATH here, else the system's.
    """

    repository: str
    program: tuple[str, ...] = ()
    place: str = ""
    copies: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    port_flags: tuple[str, ...] = ()
    own_ports: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    fixed_ports: Mapping[str, frozenset[int]] = field(default_factory=dict)
    shells: tuple[str, ...] = ()
    without_token_path: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, container: Mapping[str, Any]) -> list[str] | None:
        """What a container starts the image's own program with; None when it starts another."""
        command = [str(word) for word in container.get("command") or ()]
        args = [str(word) for word in container.get("args") or ()]
        if not command:
            return args or list(self.args)
        is_own = bool(self.place) and command[0] in (self.place, *self.copies)
        return [*command[1:], *args] if is_own else None

    def with_own_ports(self, args: Sequence[str]) -> list[str]:
        """``args`` with the ports spelt out that the program would otherwise choose itself."""
        told = {word.partition("=")[0] for word in args}
        own = self.own_ports.get(args[0], {}) if args else {}
        return [*args, *(f"{flag}={port}" for flag, port in own.items() if flag not in told)]

    def ports_in(self, args: Sequence[str]) -> frozenset[int]:
        """The ports that the program listens on when it is started with ``args``."""
        words = self.with_own_ports(args)
        pairs = [*(word.partition("=")[::2] for word in words), *itertools.pairwise(words)]
        ports = (value.removeprefix(":") for flag, value in pairs if flag in self.port_flags)
        # 0 is how a program is told not to listen.
        return frozenset(int(port) for port in ports if port.isdecimal() and int(port))

    @property
    def entrypoint(self) -> tuple[str, ...]:
        """The image's own start, as a container sees it."""
        return (self.place, *self.program[1:]) if self.place else self.program

    def locate(self) -> Path | None:
        """The file that ``place`` stands for; None for a row without one.

        Raises ProgramError when it is not here or not as pinned.
        """
        return _find(self.program[0]) if self.place else None

    def locate_tools(self) -> dict[str, Path]:
        """The files that ``tools`` stand for, by place.  Raises as ``locate``."""
        return {place: _find(name) for place, name in self.tools.items()}

    def find_shell(self) -> Path | None:
        """What is to be ``/bin/sh``; None for the system's own."""
        found = next(filter(None, map(shutil.which, self.shells)), None)
        return Path(found) if found else None

    @property
    def id(self) -> str:
        """What really runs, for ``imageID`` in a pod's status."""
        digest = hashlib.sha256(repr(self).encode()).hexdigest()
        return f"labkit.local/{self.repository}@sha256:{digest}"


def _find(name: str) -> Path:
    if name.startswith("lab:"):
        return programs.resolve(name.removeprefix("lab:")).path
    found = shutil.which(name)
    if found is None:
        raise LabError(f"{name} is not a program that can be run", todo="See images.toml.")
    return Path(found)


_BAO_CONFIG = "/openbao/config/local.json"
_VAULT_CONFIG = "/vault/config/local.json"
# In the image, sh hands on every variable of its environment.  So does bash; dash, the sh of
# many systems, drops those with a dash or a dot in their names, as keys of Secrets often have.
_SHELLS = ("bash",)

_VALKEY_CONFIG = "/etc/valkey/valkey.conf"
_EXTERNAL_SECRETS: dict[str, Any] = {
    "program": ("lab:external-secrets",),
    "place": "/app/external-secrets",
    "port_flags": ("--port", "--metrics-addr", "--healthz-addr", "--live-addr"),
    # Its heap may grow by a half before it is collected, instead of doubling.
    "env": {"GOGC": "50"},
}

BUILT_IN: tuple[Image, ...] = (
    Image(
        "quay.io/openbao/openbao",
        ("lab:bao",),
        place="/app/bao",
        args=("server",),
        added={"server": (f"-config={_BAO_CONFIG}",)},
        files={_BAO_CONFIG: "BAO_LOCAL_CONFIG"},
        env={"BAO_ADDR": "http://127.0.0.1:8200"},
    ),
    Image(
        "docker.io/hashicorp/vault",
        ("lab:vault",),
        place="/app/vault",
        args=("server",),
        added={"server": (f"-config={_VAULT_CONFIG}",)},
        files={_VAULT_CONFIG: "VAULT_LOCAL_CONFIG"},
        env={"VAULT_ADDR": "http://127.0.0.1:8200"},
    ),
    Image("ghcr.io/external-secrets/external-secrets", **_EXTERNAL_SECRETS),
    Image("oci.external-secrets.io/external-secrets/external-secrets", **_EXTERNAL_SECRETS),
    Image(
        "quay.io/argoproj/argocd",
        ("lab:argocd",),
        place="/usr/local/bin/argocd",
        copies=(
            "/usr/local/bin/argocd-application-controller",
            "/usr/local/bin/argocd-repo-server",
        ),
        tools={"/usr/local/bin/helm": "lab:helm"},
        port_flags=("--port", "--metrics-port"),
        env={
            "ARGOCD_REPO_SERVER_LISTEN_ADDRESS": "127.0.0.1",
            "ARGOCD_REPO_SERVER_METRICS_LISTEN_ADDRESS": "127.0.0.1",
            "GOGC": "50",
        },
        without_token_path={"ARGOCD_FAKE_IN_CLUSTER": "true"},
    ),
    Image(
        "docker.io/valkey/valkey",
        ("lab:valkey-server",),
        place="/usr/local/bin/valkey-server",
        added={_VALKEY_CONFIG: ("--bind", "127.0.0.1")},
        port_flags=("--port",),
    ),
    Image(
        "docker.io/bitnami/sealed-secrets-controller",
        ("lab:sealed-secrets-controller",),
        place="/usr/local/bin/controller",
        port_flags=("--listen-addr", "--listen-metrics-addr"),
    ),
    Image(
        "localhost/gitops-secrets-app",
        (sys.executable, "-m", "labkit.demo_app"),
        env={"SECRETS_DIR": "/secrets", "HOST": "127.0.0.1"},
    ),
    Image(
        "localhost/gitops-git-server",
        (sys.executable, "-m", "labkit.gitserver"),
        env={"GIT": shutil.which("git") or "git"},
    ),
    Image(
        "docker.io/library/python",
        (),
        args=("python3",),
        env={"PATH": f"{Path(sys.executable).parent}:{STANDARD_PATH}"},
    ),
    Image("docker.io/library/busybox", (), args=("sh",), shells=_SHELLS),
    Image(
        "registry.k8s.io/e2e-test-images/agnhost",
        ("lab:agnhost",),
        place="/agnhost",
        copies=("/agnhost-2",),
        args=("pause",),
        port_flags=("--http-port", "--udp-port", "--sctp-port", "--port", "--backend-port"),
        own_ports={
            "netexec": {"--http-port": 8080, "--udp-port": 8081},
            "test-webserver": {"--port": 80},
            "grpc-health-checking": {"--port": 5000, "--http-port": 8080},
        },
        fixed_ports={"liveness": frozenset({8080})},
    ),
    Image("registry.k8s.io/e2e-test-images/busybox", (), args=("sh",), shells=_SHELLS),
    Image("registry.k8s.io/pause", ("sleep", "2147483647")),
)


class ImageTable:
    """The rows by repository; a later row replaces an earlier one of that name."""

    def __init__(
        self, rows: Iterable[Image] = BUILT_IN, *, source: Path = Path("images.toml")
    ) -> None:
        self.source = source
        self._rows = {row.repository: row for row in rows}

    def find(self, image: str) -> Image | None:
        """The row for an image reference as a pod has it."""
        return self._rows.get(repository_of(image))

    @property
    def known(self) -> list[str]:
        """Every repository that has a row."""
        return sorted(self._rows)

    def refusal(self, image: str) -> str:
        """Why ``image`` cannot run here and what can: for the pod's status."""
        return (
            f'image "{image}" has no local program; known: {", ".join(self.known)}; '
            f"add a row to {self.source}, then run labkit down and labkit up"
        )


def repository_of(image: str) -> str:
    """``docker.io/library/busybox`` from ``busybox:1.36@sha256:…``.

    Source: ``ParseNormalizedNamed`` of the distribution project's ``reference`` package.
    """
    name = image.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    name = f"{head}{slash}{tail.partition(':')[0]}"
    first, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    if "." not in first and ":" not in first and first != "localhost":
        return f"docker.io/{name}"
    return name


def load_table(state_root: Path) -> ImageTable:
    """The built-in rows and the user's own.  Raises UsageError for a file with a mistake."""
    named = os.environ.get("LABKIT_IMAGES")
    path = Path(named) if named else state_root / "images.toml"
    if not named and not path.exists():
        return ImageTable(source=path)
    try:
        found = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(
            "The file with your images cannot be read", seen=f"{path}: {error.strerror}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML", seen=str(error)) from error
    rows = [_row(path, name, entry) for name, entry in found.items()]
    return ImageTable([*BUILT_IN, *rows], source=path)


def _row(path: Path, name: str, entry: Any) -> Image:
    def mistake(what: str) -> UsageError:
        return UsageError(
            f'The image "{name}" in {path} cannot be used',
            seen=what,
            todo='A row is: ["my/image"], then program = ["/path/to/program"], args, env.',
        )

    if not isinstance(entry, dict):
        raise mistake("it is not a table")
    if unknown := sorted(entry.keys() - _KEYS):
        raise mistake(f"unknown key {', '.join(unknown)}; known: {', '.join(sorted(_KEYS))}")
    lists: dict[str, tuple[str, ...]] = {}
    for key in ("program", "args"):
        value = entry.get(key, [])
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise mistake(f"{key} must be a list of strings")
        lists[key] = tuple(value)
    env = entry.get("env", {})
    if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
        raise mistake("env must be a table of strings")
    if lists["program"] and not shutil.which(lists["program"][0]):
        raise mistake(f"{lists['program'][0]} is not a program that can be run")
    return Image(repository_of(name), lists["program"], args=lists["args"], env=env)


# -- telling a program its ports ---------------------------------------------------------

_PLACEHOLDER = re.compile(r"\{port:(\d+)\}")
_LISTEN = re.compile(
    r"(?<![\w.\]:-])(?:0\.0\.0\.0|\[::1?\]|127\.0\.0\.1|localhost)?:(\d{1,5})(?![\w.:])"
)
"""``:8080``, ``0.0.0.0:8080`` and so on, but not ``vault.vault:8200`` or ``12:30:15``."""


def with_real_ports(text: str, ports: Mapping[int, int]) -> str:
    """``text`` with each address to listen on (or to find a neighbour in the pod) made real.

    Only containerPorts that the pod declares are touched, and what listened everywhere
    listens on loopback.
    """

    def real(match: re.Match[str]) -> str:
        port = ports.get(int(match[1]))
        return match[0] if port is None else f"127.0.0.1:{port}"

    text = _PLACEHOLDER.sub(lambda match: str(ports.get(int(match[1]), match[1])), text)
    return _LISTEN.sub(real, text)


def tell_ports(
    argv: Iterable[str], ports: Mapping[int, int], *, flags: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """``argv`` with the ports that its program really gets.

    ``flags`` are options whose value is a bare port, as ``--port=80`` or ``--port 80``.
    """
    told: list[str] = []
    previous = ""
    for word in argv:
        option, equals, value = word.partition("=")
        if equals and option in flags and value.isdecimal():
            told.append(f"{option}={ports.get(int(value), value)}")
        elif previous in flags and word.isdecimal():
            told.append(str(ports.get(int(word), word)))
        else:
            told.append(with_real_ports(word, ports))
        previous = word
    return tuple(told)
