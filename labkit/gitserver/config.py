"""The server's settings, read once from the environment.

Says which variables there are and what they may hold; leaves acting on them to others.
The password is no setting but a file, which is read at each request: who replaces it need
restart nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

USER = "git"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")
_HANDED_ON = ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "SERVICE_ACCOUNT_DIR")


class ConfigError(Exception):
    """A setting cannot be used; the text is one line for whoever set it."""


@dataclass(frozen=True)
class Config:
    """Everything the server can be told, with its defaults.

    ``folder``         REPOSITORIES_DIR: the folder that holds the bare repositories.
    ``names``          REPOSITORIES: their names, separated by spaces.
    ``password_file``  PASSWORD_FILE: what the user ``git`` must know, to read and to write.
    ``base_url``       BASE_URL: what clients find the repositories below; the hook compares.
    ``host, port``     HOST, PORT: where to listen; port 0 takes any free one.
    ``max_push``       MAX_PUSH_BYTES: the largest pack that a push may bring.
    ``git``            GIT: the program itself.
    ``path``           PATH: where git finds what it calls.
    ``cluster``        what the hook needs to reach the Kubernetes API, as a pod has it.
    """

    folder: Path
    names: tuple[str, ...]
    password_file: Path
    base_url: str = "http://git.git:3000"
    host: str = "127.0.0.1"
    port: int = 3000
    max_push: int = 5 * 1024 * 1024
    git: str = "git"
    path: str = "/usr/local/bin:/usr/bin:/bin"
    cluster: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Config:
        """Read the settings; an empty variable counts as not set.  Raises ConfigError."""

        def text(name: str, default: str) -> str:
            return env.get(name, "").strip() or default

        def number(name: str, default: int, largest: int) -> int:
            value = text(name, str(default))
            if not (value.isascii() and value.isdigit() and int(value) <= largest):
                raise ConfigError(f"{name} must be a number from 0 to {largest}, not {value!r}")
            return int(value)

        names = tuple(dict.fromkeys(text("REPOSITORIES", "platform").split()))
        for name in names:
            if not NAME.fullmatch(name):
                raise ConfigError(
                    f"REPOSITORIES: {name!r} is not made of lower-case letters, digits and dashes"
                )
        return cls(
            folder=Path(text("REPOSITORIES_DIR", "/repositories")),
            names=names,
            password_file=Path(text("PASSWORD_FILE", "/etc/git-server/password")),
            base_url=text("BASE_URL", cls.base_url).rstrip("/"),
            host=text("HOST", cls.host),
            port=number("PORT", cls.port, 65535),
            max_push=number("MAX_PUSH_BYTES", cls.max_push, 2**31),
            git=text("GIT", cls.git),
            path=text("PATH", cls.path),
            cluster=tuple((name, env[name]) for name in _HANDED_ON if env.get(name)),
        )

    def environment(self) -> dict[str, str]:
        """What each of git's processes gets: nothing of the user's or the system's settings."""
        return {
            "PATH": self.path,
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
        }
