"""The credentials file: how it is read from disk, parsed, and masked for showing.

The format is one ``key="value"`` a line, with blank lines and ``#`` comments.  A value may
hold the escapes that Go's ``quote`` and ``toJson`` template functions write.  Reading never
blocks and never takes more than MAX_BYTES; when to read is the watcher's business.

No error text here ever holds a piece of the file: it says which line, and what is wrong.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAX_BYTES = 1 << 20
REQUIRED = ("db_con", "db_user", "db_password")
MASK = "•" * 8  # always eight: a password's length is nobody's business either

_LINE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_.-]*)\s*=\s*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_SIMPLE = {'"': '"', "\\": "\\", "/": "/", "n": "\n", "r": "\r", "t": "\t"}
_SECRET_KEY = re.compile(r"pass|pwd|secret|token|key|credential|private", re.IGNORECASE)


class CredentialsError(Exception):
    """The file cannot be used; the text is one line, safe to show and to log."""


@dataclass(frozen=True)
class Credentials:
    """A file that parsed: ``values`` by key, and the line each stood on (from 1)."""

    values: Mapping[str, str] = field(repr=False)
    lines: Mapping[str, int]

    def changed_from(self, other: Credentials | None) -> list[str]:
        """The names of the keys that were added, removed or given another value."""
        before = other.values if other else {}
        keys = [*self.values, *(key for key in before if key not in self.values)]
        return [key for key in keys if self.values.get(key) != before.get(key)]


def read_bytes(path: Path) -> tuple[bytes, os.stat_result]:
    """The file's content with the stat of the very file that was read.

    Raises CredentialsError.  Opening with O_NONBLOCK means that a named pipe put in the
    file's place is refused and does not hang the program.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise CredentialsError(_open_failure(path, error)) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CredentialsError(f"{path} is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        raise CredentialsError(f"{path} could not be read: {reason}") from None
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise CredentialsError(f"{path} is larger than 1 MiB, so it was not read")
    return data, status


def _open_failure(path: Path, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        if not path.parent.is_dir():
            return f"the folder {path.parent} does not exist"
        return f"there is no file {path}"
    return f"{path} could not be opened: {(error.strerror or 'unknown error').lower()}"


def parse(data: bytes, *, required: tuple[str, ...] = REQUIRED) -> Credentials:
    """Parse a credentials file; every key in ``required`` must be there and not be empty.

    Raises CredentialsError, naming the line.  An unknown escape such as ``\\q`` is kept as it
    stands, backslash and all: a password pasted in by a template without quoting it survives.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise CredentialsError(f"line {number}: this is not UTF-8 text") from None
    if not text.strip():
        raise CredentialsError("the file is empty")
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    # Not splitlines(): that would also break at characters a password may contain.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        head = _LINE.match(line)
        if head is None:
            raise CredentialsError(f'line {number}: expected key="value"')
        key = head[1]
        if key in lines:
            raise CredentialsError(f"line {number}: repeats the key of line {lines[key]}")
        values[key] = _value(line[head.end() :], number)
        lines[key] = number
    missing = [key for key in required if not values.get(key)]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        state = "empty" if all(key in lines for key in missing) else "missing"
        raise CredentialsError(f"{', '.join(missing)} {verb} {state}")
    return Credentials(values, lines)


def _value(text: str, number: int) -> str:
    if not text.startswith('"'):
        raise CredentialsError(f"line {number}: the value must stand in double quotes")
    quoted = _QUOTED.match(text)
    if quoted is None:
        raise CredentialsError(f"line {number}: the closing quote is missing")
    rest = text[quoted.end() :].strip()
    if rest and not rest.startswith("#"):
        raise CredentialsError(f"line {number}: there is text after the closing quote")
    value = _ESCAPE.sub(_unescape, quoted[1])
    try:  # two \u escapes may form one character; half a pair forms none
        value = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        raise CredentialsError(f"line {number}: an escape is not a character") from None
    if "\0" in value:
        raise CredentialsError(f"line {number}: the value holds a NUL character")
    return value


def _unescape(match: re.Match[str]) -> str:
    escape = match[1]
    if len(escape) == 1:
        return _SIMPLE.get(escape, match[0])
    code = int(escape[1:], 16)
    return chr(code) if code <= 0x10FFFF else "\ud800"  # half a pair: refused by the caller


def is_secret(key: str) -> bool:
    """Whether a value is masked until somebody asks for it, judged by its key's name."""
    return _SECRET_KEY.search(key) is not None


def masked(values: Mapping[str, str]) -> dict[str, str]:
    """``values`` for showing: secret ones masked, also where another value repeats them.

    ``jdbc:mysql://demo_user:<password>@db`` is the usual way a password gets into a value
    that nobody thinks of as secret.
    """
    secrets = [value for key, value in values.items() if is_secret(key) and len(value) >= 4]
    secrets.sort(key=len, reverse=True)
    shown = {}
    for key, value in values.items():
        for secret in secrets:
            value = value.replace(secret, MASK)
        shown[key] = MASK if is_secret(key) else value
    return shown
