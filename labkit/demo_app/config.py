"""The application's settings, read once from the environment.

Says which variables there are and what they may hold; leaves acting on them to others.
A variable that is set to something unusable stops the program with one line that names
the variable, since a setting that is quietly ignored costs its owner an afternoon.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

WATCH_MODES = ("folder", "file", "off")
FRAME_ANCESTORS = "'self' http://127.0.0.1:* http://localhost:*"


class ConfigError(Exception):
    """A setting cannot be used; the text is one line for whoever set it."""


@dataclass(frozen=True)
class Config:
    """Everything the application can be told, with its defaults.

    ``secrets_dir``      SECRETS_DIR: the folder that holds the file ``credentials``.
    ``host``, ``port``   HOST, PORT: where to listen; port 0 takes any free one.
                         LISTEN: both in one word, as ``0.0.0.0:8080``, before these two.
    ``watch_mode``       WATCH_MODE: ``folder`` sees every change; ``file`` follows only the
                         file that was there first (a trap, for teaching); ``off`` never looks.
    ``env_var``          APP_ENV_VAR: a variable that holds the password too, to compare with.
    ``env_var_asked``    whether APP_ENV_VAR was set: then its absence is worth showing.
    ``subpath_file``     APP_SUBPATH_FILE: a second copy of the file, to compare with.
    ``allowed_hosts``    ALLOWED_HOSTS: more names this server answers to, comma separated;
                         ``*.example.org`` covers a domain, ``*`` alone turns the guard off.
    ``frame_ancestors``  FRAME_ANCESTORS: who may show the page in a frame (a CSP source list).
    """

    secrets_dir: Path = Path("/secrets")
    host: str = "127.0.0.1"
    port: int = 8080
    watch_mode: str = "folder"
    env_var: str = "DB_PASSWORD"
    env_var_asked: bool = False
    subpath_file: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    frame_ancestors: str = FRAME_ANCESTORS

    @property
    def credentials_file(self) -> Path:
        return self.secrets_dir / "credentials"

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Config:
        """Read the settings; an empty variable counts as not set.  Raises ConfigError."""

        def text(name: str, default: str) -> str:
            value = env.get(name, "").strip() or default
            if not value.isprintable():
                raise ConfigError(f"{name} holds a line break or another control character")
            return value

        host, colon, port = text("LISTEN", "").rpartition(":")
        if not colon and port:
            raise ConfigError(f"LISTEN must be host:port, not {port!r}")
        if not colon:
            host, port = text("HOST", "127.0.0.1"), text("PORT", "8080")
        if not (port.isascii() and port.isdigit() and int(port) <= 65535):
            raise ConfigError(f"PORT must be a number from 0 to 65535, not {port!r}")
        watch_mode = text("WATCH_MODE", "folder").lower()
        if watch_mode not in WATCH_MODES:
            raise ConfigError(f"WATCH_MODE must be folder, file or off, not {watch_mode!r}")
        env_var = text("APP_ENV_VAR", "DB_PASSWORD")
        if "=" in env_var:
            raise ConfigError("APP_ENV_VAR takes the name of a variable, not name=value")
        frame_ancestors = text("FRAME_ANCESTORS", FRAME_ANCESTORS)
        if re.search(r"[;,]", frame_ancestors):
            raise ConfigError("FRAME_ANCESTORS is a list of sources separated by spaces")
        subpath = text("APP_SUBPATH_FILE", "")
        return cls(
            secrets_dir=Path(text("SECRETS_DIR", "/secrets")),
            host=host,
            port=int(port),
            watch_mode=watch_mode,
            env_var=env_var,
            env_var_asked=bool(env.get("APP_ENV_VAR", "").strip()),
            subpath_file=Path(subpath) if subpath else None,
            allowed_hosts=tuple(
                name.strip().lower()
                for name in text("ALLOWED_HOSTS", "").split(",")
                if name.strip()
            ),
            frame_ancestors=frame_ancestors,
        )
