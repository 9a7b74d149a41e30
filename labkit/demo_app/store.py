"""What the application knows: the last good values, and what is wrong now, if anything.

One thread calls ``Store.tick``; any thread may read ``Store.state``, an immutable picture that
is replaced whole.  A file that cannot be used never replaces values that could: the store
keeps them and says since when, and why.

A failure is believed only when a second look finds it again, so that a writer who truncates
and rewrites the file does not alarm anybody.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .config import Config
from .credentials import Credentials, CredentialsError, parse, read_bytes
from .journal import Journal
from .watcher import FolderWatch, Watch, watch

PASSWORD = "db_password"  # the key, and no value


@dataclass(frozen=True)
class State:
    """The credentials file as the application has it at one moment (times in unix seconds).

    ``version`` counts the different contents that were loaded, 0 while there was none;
    ``data`` are the bytes of that version, ``target`` what ``..data`` pointed to if the
    folder is a mounted volume; ``error`` is why the file cannot be used now.
    """

    credentials: Credentials | None = None
    version: int = 0
    loaded_at: float | None = None
    file_changed_at: float | None = None
    target: str | None = None
    error: str | None = "the file was not read yet"
    error_at: float | None = None
    data: bytes = field(default=b"", repr=False)

    @property
    def ready(self) -> bool:
        return self.credentials is not None and self.error is None

    @property
    def stale(self) -> bool:
        """Whether older values are shown because the file cannot be used now."""
        return self.credentials is not None and self.error is not None


@dataclass(frozen=True)
class OtherSource:
    """The same secret from somewhere else: an environment variable or a subPath mount."""

    kind: str
    where: str
    value: str | None = field(default=None, repr=False)
    error: str | None = None
    changed_since_start: bool = False
    read_at: float = field(default_factory=time.time)


class Store:
    """Reads the sources when their watches say so, and keeps the outcome."""

    def __init__(
        self,
        config: Config,
        journal: Journal,
        env: Mapping[str, str],
        *,
        log: Callable[[str], None],
    ) -> None:
        self.config = config
        self.journal = journal
        self.state = State()
        self.watch: Watch = watch(config.credentials_file, config.watch_mode)
        self._log = log
        self._look_again = False
        self._salt = secrets.token_bytes(32)
        self._env_source = _from_environment(config, env)
        self._subpath_watch = FolderWatch(config.subpath_file) if config.subpath_file else None
        self._subpath_source: OtherSource | None = None
        self._subpath_first: str | None = None

    def fingerprint(self, value: str | None) -> str | None:
        """A short mark that is equal for equal values, and useless outside this process.

        It is keyed with a random key that never leaves memory: nobody who sees it can try
        passwords against it, and it differs after a restart.
        """
        if value is None:
            return None
        return hashlib.blake2s(value.encode(), key=self._salt, digest_size=4).hexdigest()

    @property
    def others(self) -> list[OtherSource]:
        return [source for source in (self._env_source, self._subpath_source) if source]

    def tick(self) -> None:
        """Look at the files, and read those that may have changed."""
        if self.watch.changed() or self._look_again:
            self._read()
        if self._subpath_watch is not None and self._subpath_watch.changed():
            self._read_subpath(self._subpath_watch.path)

    def _read(self) -> None:
        before = self.state
        try:
            data, status = read_bytes(self.config.credentials_file)
            same = before.credentials if data == before.data else None
            credentials = same or parse(data)
        except CredentialsError as error:
            confirmed = self._look_again or before.version == 0
            self._look_again = not confirmed
            if confirmed:
                self._failed(str(error))
            return
        self._look_again = False
        target = _data_link(self.config.secrets_dir)
        if credentials is same:
            if before.error is not None or before.target != target:
                self.state = replace(before, error=None, error_at=None, target=target)
            if before.error is not None:
                self.journal.record("recovered", before.version)
                self._log(f"the file is usable again and as before: version {before.version}")
            return
        self.state = State(
            credentials=credentials,
            version=before.version + 1,
            loaded_at=time.time(),
            file_changed_at=status.st_mtime,
            target=target,
            error=None,
            data=data,
        )
        changed = credentials.changed_from(before.credentials)
        event = "reloaded" if before.version else "loaded"
        self.journal.record(event, self.state.version, changed=changed)
        what = ", ".join(changed) if changed else "comments only"
        path = self.config.credentials_file
        self._log(f"{event} version {self.state.version} of {path}: {what}")

    def _failed(self, reason: str) -> None:
        if reason == self.state.error:
            return
        self.state = replace(self.state, error=reason, error_at=time.time())
        self.journal.record("load-failed", self.state.version, error=reason)
        kept = f"; keeping version {self.state.version}" if self.state.version else ""
        self._log(f"cannot use {self.config.credentials_file}: {reason}{kept}")

    def _read_subpath(self, path: Path) -> None:
        try:
            source = OtherSource("subpath", str(path), _password_in(read_bytes(path)[0]))
        except CredentialsError as error:
            self._subpath_source = OtherSource("subpath", str(path), error=str(error))
            return
        if self._subpath_first is None:
            self._subpath_first = source.value
        changed = source.value != self._subpath_first
        self._subpath_source = replace(source, changed_since_start=changed)


def _from_environment(config: Config, env: Mapping[str, str]) -> OtherSource | None:
    """The variable as it is at the start: nobody outside can change it afterwards."""
    value = env.get(config.env_var)
    if value is None:
        unset = OtherSource("env", config.env_var, error="the variable is not set")
        return unset if config.env_var_asked else None
    try:
        return OtherSource("env", config.env_var, _password_in(os.fsencode(value)))
    except CredentialsError as error:
        return OtherSource("env", config.env_var, error=str(error))


def _password_in(data: bytes) -> str:
    """The password in ``data``: of a whole credentials file, or else all of the text."""
    try:
        return parse(data, required=(PASSWORD,)).values[PASSWORD]
    except CredentialsError:
        try:
            return data.decode().strip("\r\n")
        except UnicodeDecodeError:
            raise CredentialsError("this is not UTF-8 text") from None


def _data_link(folder: Path) -> str | None:
    """Where the folder's ``..data`` link points, if it is a mounted volume."""
    try:
        return os.fspath((folder / "..data").readlink())
    except OSError:
        return None
