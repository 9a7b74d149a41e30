"""Where labkit keeps things: one cache for programs, one state folder per lab.

Everything a lab writes is below these two folders, so ``down`` can take it away
and a person can look at it.  Files are 0600 and folders 0700: a lab often runs on
a machine that others use too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labkit.errors import LabError, UsageError

DEFAULT_LAB = "lab"
_LAB_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def cache_dir() -> Path:
    """The folder for programs and golden snapshots (``LABKIT_CACHE`` overrides it).

    Raises LabError when this user has no home folder.
    """
    override = os.environ.get("LABKIT_CACHE")
    if override:
        return Path(override)
    import platformdirs  # not for the guardian, which must stay tiny

    with _home_explained():
        return Path(platformdirs.user_cache_dir("labkit"))


def state_root() -> Path:
    """The folder that holds one folder per lab (``LABKIT_STATE`` overrides it).

    Raises LabError when this user has no home folder.
    """
    override = os.environ.get("LABKIT_STATE")
    if override:
        return Path(override)
    import platformdirs

    with _home_explained():
        return Path(platformdirs.user_state_dir("labkit"))


@contextlib.contextmanager
def _home_explained() -> Iterator[None]:
    """Words for a container that runs as a number which nobody has a name for."""
    try:
        yield
    except RuntimeError as error:
        raise LabError(
            "This user has no home folder to keep labs and programs in",
            seen=f"HOME is not set, and the user {os.getuid()} is unknown here",
            todo="Set HOME, or LABKIT_STATE and LABKIT_CACHE, to folders of yours.",
        ) from error


def check_lab_name(name: str) -> str:
    """Return ``name`` if it can be a lab's name: a DNS label of at most 32 characters.

    Raises UsageError otherwise.  The name becomes a folder and a Kubernetes node name.
    """
    if not _LAB_NAME.fullmatch(name):
        raise UsageError(
            "A lab's name is 1 to 32 lower-case letters, digits and dashes, "
            "with a letter or digit at both ends",
            seen=repr(name),
            todo="Try --name my-lab.",
        )
    return name


@dataclass(frozen=True)
class LabPaths:
    """The files of one lab.  Making the object creates nothing."""

    name: str
    root: Path

    @classmethod
    def of(cls, name: str) -> LabPaths:
        return cls(name=check_lab_name(name), root=state_root() / name)

    @property
    def record(self) -> Path:
        """``lab.json``: what runs, written whole by the supervisor."""
        return self.root / "lab.json"

    @property
    def lock(self) -> Path:
        """Held while a command brings this lab up or down."""
        return self.root.with_name(f".{self.name}.lock")

    @property
    def ledger(self) -> Path:
        """The lab's processes, one a line (see ``ledger``)."""
        return self.root / "ledger"

    @property
    def kubeconfig(self) -> Path:
        """The learner's (cluster-admin) kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def cluster(self) -> Path:
        """``cluster.json``: whose cluster the lab is in; there only if it is somebody else's."""
        return self.root / "cluster.json"

    @property
    def page_url(self) -> Path:
        """The app's page on this machine, for a lab in somebody else's cluster."""
        return self.root / "page-url"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def api_audit(self) -> Path:
        """The API server's audit log (one JSON event a line)."""
        return self.logs / "audit.log"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def etcd(self) -> Path:
        return self.root / "etcd"

    @property
    def node(self) -> Path:
        """The node agent's folder: ``pods/<uid>/…`` with volumes and container logs."""
        return self.root / "node"

    @property
    def journal(self) -> Path:
        """``journal.jsonl``: what the node did and when (one JSON object a line)."""
        return self.root / "journal.jsonl"

    @property
    def proxy_url(self) -> Path:
        """The cluster network's forward-proxy URL, credential included (0600)."""
        return self.root / "proxy-url"

    @property
    def vault_token(self) -> Path:
        """Vault's root token (0600)."""
        return self.root / "vault-token"

    @property
    def git_credentials(self) -> Path:
        """The lab's Git server's user and password, as git's credential store has them (0600)."""
        return self.root / "git-credentials"

    @property
    def platform(self) -> Path:
        """Where lessons clone the repository ``platform`` to."""
        return self.root / "platform"

    @property
    def commands(self) -> Path:
        """Commands of this lab alone, for the front of PATH."""
        return self.root / "bin"

    @property
    def position(self) -> Path:
        """Which lesson the lab is in (see ``position``)."""
        return self.root / "position.json"

    @property
    def progress(self) -> Path:
        """What the learner has passed; outlives the lab (see ``progress``)."""
        return self.root.with_name(f".{self.name}.progress.json")

    @property
    def seat(self) -> Path:
        """In which class the learner sits, if in any (see ``classroom``); outlives the lab."""
        return self.root.with_name(f".{self.name}.seat.json")

    @property
    def vault_unseal_key(self) -> Path:
        """Vault's one key share (0600)."""
        return self.root / "vault-unseal-key"


def manifest(name: str) -> Path:
    """A file or folder of the course's manifests: ``vault/vault.yaml``, say.

    They stand at the top of the repository, and inside the package of an installed wheel.
    """
    package = Path(__file__).parent
    inside = package / "_course" / "manifests"
    return (inside if inside.is_dir() else package.parent / "manifests") / name


def folder_error(error: OSError, folder: Path) -> LabError:
    """Words for an OSError that was met while something was kept below ``folder``."""
    seen = f"{error.filename or folder}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return LabError(
            "There is no space left on the disk",
            seen=seen,
            todo="Free some, or set LABKIT_STATE to a folder with room.",
        )
    if error.filename is None:  # a socket or a process, say
        return LabError("The system refused something that the lab needs", seen=seen)
    return LabError(
        "The lab's folder cannot be used", seen=seen, todo="Set LABKIT_STATE to a folder of yours."
    )


def make_private_dir(path: Path) -> Path:
    """Create ``path`` (and parents) with mode 0700; safe to repeat."""
    # pathlib gives the mode to the last folder alone.
    for folder in reversed([each for each in path.parents if not each.exists()]):
        folder.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def write_private(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` with mode 0600, all or nothing.

    The text goes to a new file beside it that is then renamed, so a reader sees the
    old content or the new one and a crash leaves no half-written file in place.
    """
    data = content.encode() if isinstance(content, str) else content
    make_private_dir(path.parent)
    # Without tempfile, which is not for the guardian either.
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
