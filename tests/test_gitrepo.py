"""The lab's Git server, used by ordinary git as a learner's terminal has it."""

from __future__ import annotations

import base64
import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from harness import until

from labkit import environment, gitconfig, gitrepo, programs
from labkit.errors import LabError
from labkit.gitrepo import EXTERNAL_SECRETS, PLATFORM, TAG, Door
from labkit.kube import namespaces
from labkit.lab import Lab

MIB = 1024 * 1024
URL = gitrepo.url(PLATFORM)


@pytest.fixture(scope="module")
def door(lab: Lab) -> Iterator[Door]:
    """The server, installed without Argo CD."""
    door = Door(lab.paths.git_credentials, lab.paths.proxy_url)
    gitrepo.install(lab.api, door, with_argocd=False)
    yield door
    namespaces.remove(lab.api, gitrepo.NAMESPACE)
    door.credentials.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def emptied(door: Door) -> None:
    gitrepo.empty(door, PLATFORM)


@pytest.fixture
def env(lab: Lab, door: Door, tmp_path: Path) -> dict[str, str]:
    """A terminal after ``eval "$(labkit env)"``, of somebody who never set up git."""
    base = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "HOME": str(tmp_path),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
    set_by_lab = environment.variables(lab.paths, lab.engine, (), base)
    return base | {variable.name: variable.read() for variable in set_by_lab}


def run(env: Mapping[str, str], *words: str, folder: Path | None = None) -> tuple[int, str]:
    done = subprocess.run(
        ["git", *words],
        env=dict(env),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def git(env: Mapping[str, str], *words: str, folder: Path | None = None) -> str:
    code, said = run(env, *words, folder=folder)
    assert code == 0, said
    return said


def cloned(env: Mapping[str, str], folder: Path) -> Path:
    git(env, "clone", URL, str(folder))
    return folder


def commit(env: Mapping[str, str], folder: Path, name: str, content: bytes = b"text\n") -> str:
    (folder / name).write_bytes(content)
    git(env, "add", name, folder=folder)
    git(env, "commit", "-m", f"Write {name}", folder=folder)
    return git(env, "rev-parse", "HEAD", folder=folder).strip()


def main_of(env: Mapping[str, str]) -> str:
    """The commit that the server's main is at, "" where it has none."""
    return git(env, "ls-remote", URL, "refs/heads/main").partition("\t")[0]


def log(lab: Lab) -> str:
    pod = lab.api.list("v1", "Pod", gitrepo.NAMESPACE)[0]["metadata"]["name"]
    path = f"/api/v1/namespaces/{gitrepo.NAMESPACE}/pods/{pod}/log"
    return lab.api.raw("GET", path).decode()


def server(lab: Lab) -> psutil.Process:
    """The server's own process."""
    supervisor = lab.record.supervisor
    assert supervisor is not None
    for process in psutil.Process(supervisor.pid).children(recursive=True):
        if process.cmdline()[1:3] == ["-m", "labkit.gitserver"]:
            return process
    raise AssertionError("the git server does not run")


def peak(process: psutil.Process) -> int:
    """The most memory that the process ever had, in bytes (Linux)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


# -- what learners do -----------------------------------------------------------------------


def test_a_learner_clones_commits_and_pushes(
    lab: Lab, door: Door, env: dict[str, str], tmp_path: Path
) -> None:
    work = cloned(env, tmp_path / "work")
    made = commit(env, work, "readme")
    assert "main -> main" in git(env, "push", folder=work)
    assert main_of(env) == made
    gitrepo.clone(door, PLATFORM, tmp_path / "again")
    assert (tmp_path / "again" / "readme").read_text() == "text\n"
    assert git(env, "log", "--format=%an", folder=work) == "Learner\n"
    password = door.password()
    assert password
    assert not any(password in value for value in env.values())
    assert password not in (work / ".git" / "config").read_text()
    assert door.credentials.stat().st_mode & 0o777 == 0o600
    assert "POST /platform.git/git-receive-pack 200" in log(lab)
    assert password not in log(lab)
    assert base64.b64encode(f"git:{password}".encode()).decode() not in log(lab)


def test_a_push_says_that_nobody_told_argo_cd(
    lab: Lab, env: dict[str, str], tmp_path: Path
) -> None:
    lab.api.delete("rbac.authorization.k8s.io/v1", "RoleBinding", "git-server", "argocd")
    work = cloned(env, tmp_path / "work")
    made = commit(env, work, "readme")
    assert "remote: Argo CD was not asked to look: " in git(env, "push", folder=work)
    assert main_of(env) == made


def test_a_history_can_be_rewritten_but_main_not_deleted(
    env: dict[str, str], tmp_path: Path
) -> None:
    work = cloned(env, tmp_path / "work")
    commit(env, work, "first")
    commit(env, work, "leak")
    git(env, "push", folder=work)
    git(env, "reset", "--hard", "HEAD~", folder=work)
    other = commit(env, work, "instead")
    assert "rejected" in run(env, "push", folder=work)[1]
    assert "forced update" in git(env, "push", "--force", folder=work)
    assert main_of(env) == other
    code, said = run(env, "push", "--delete", "origin", "main", folder=work)
    assert code
    assert "refusing to delete the current branch: refs/heads/main" in said
    assert main_of(env) == other
    git(env, "push", "origin", "HEAD:refs/heads/side", folder=work)
    git(env, "push", "--delete", "origin", "side", folder=work)


def test_a_long_negotiation_is_understood(env: dict[str, str], tmp_path: Path) -> None:
    """git compresses what it asks for when that is long."""
    work = cloned(env, tmp_path / "work")
    for number in range(40):
        git(env, "commit", "--allow-empty", "-m", f"{number}", folder=work)
        git(env, "tag", f"t{number}", folder=work)
    git(env, "push", "--tags", "origin", "main", folder=work)
    again = cloned(env, tmp_path / "again")
    assert len(git(env, "tag", folder=again).split()) == 40
    assert git(env, "fsck", folder=again) is not None


def test_a_repository_is_made_empty_for_a_lesson_begun_over(
    door: Door, env: dict[str, str], tmp_path: Path
) -> None:
    work = cloned(env, tmp_path / "work")
    commit(env, work, "readme")
    git(env, "push", folder=work)
    gitrepo.empty(door, PLATFORM)
    assert git(env, "ls-remote", URL) == ""
    git(env, "push", folder=work)
    with pytest.raises(LabError, match=r"repositories: /platform\.git, /external-secrets\.git"):
        gitrepo.empty(door, "elsewhere")


# -- who may ask ----------------------------------------------------------------------------


def test_without_the_password_nothing_is_read_or_written(
    door: Door, env: dict[str, str], tmp_path: Path
) -> None:
    work = cloned(env, tmp_path / "work")
    made = commit(env, work, "readme")
    git(env, "push", folder=work)
    commit(env, work, "more")
    stranger = {**env, "GIT_CONFIG_COUNT": "0"}
    wrong = URL.replace("http://", "http://git:guess@")
    for words in (["ls-remote", URL], ["clone", URL, str(tmp_path / "x")], ["push", URL, "main"]):
        assert "could not read Username" in run(stranger, *words, folder=work)[1]
    for words in (["ls-remote", wrong], ["push", wrong, "main"]):
        assert "Authentication failed" in run(stranger, *words, folder=work)[1]
    assert main_of(env) == made, "the learner's own password is still good, and nothing was pushed"


def test_a_lost_password_is_found_again(lab: Lab, door: Door, env: dict[str, str]) -> None:
    before = door.password()
    door.credentials.unlink()
    with pytest.raises(LabError, match="could not read Username"):
        gitrepo.clone(door, PLATFORM, lab.paths.root / "never")
    gitrepo.install(lab.api, door, with_argocd=False)
    assert door.password() == before
    assert git(env, "ls-remote", URL) == ""


# -- faults ---------------------------------------------------------------------------------


def test_a_huge_file_is_refused_in_gits_own_words(
    lab: Lab, env: dict[str, str], tmp_path: Path
) -> None:
    work = cloned(env, tmp_path / "work")
    made = commit(env, work, "readme")
    git(env, "push", folder=work)
    commit(env, work, "huge", random.randbytes(10 * MIB))
    code, said = run(env, "push", folder=work)
    assert code
    assert "pack exceeds maximum allowed size" in said
    assert main_of(env) == made
    git(env, "reset", "--hard", "HEAD~", folder=work)
    commit(env, work, "small")
    git(env, "push", folder=work)


def test_memory_stays_flat_however_much_is_pushed(
    lab: Lab, env: dict[str, str], tmp_path: Path
) -> None:
    work = cloned(env, tmp_path / "work")
    commit(env, work, "readme")
    git(env, "push", folder=work)
    process = server(lab)
    before = peak(process)
    commit(env, work, "large", random.randbytes(4 * MIB))
    git(env, "push", folder=work)
    cloned(env, tmp_path / "again")
    assert peak(process) - before < MIB


def test_a_push_that_is_cut_off_changes_nothing(
    lab: Lab, door: Door, env: dict[str, str], tmp_path: Path
) -> None:
    work = cloned(env, tmp_path / "work")
    made = commit(env, work, "readme")
    git(env, "push", folder=work)
    wanted = commit(env, work, "large", random.randbytes(MIB))
    pack = subprocess.run(
        ["git", "pack-objects", "--revs", "--stdout", "--quiet"],
        cwd=work, env=env, input=f"{wanted}\n^{made}\n".encode(), capture_output=True, check=True,
    ).stdout  # fmt: skip
    command = f"{made} {wanted} refs/heads/main\0 report-status\n"
    body = f"{len(command) + 4:04x}{command}0000".encode() + pack
    basic = base64.b64encode(f"git:{door.password()}".encode()).decode()
    proxy = urlsplit(door.proxy_url())
    known = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
    head = (
        f"POST {URL}/git-receive-pack HTTP/1.1\r\nHost: git.git:3000\r\n"
        f"Proxy-Authorization: Basic {known}\r\nAuthorization: Basic {basic}\r\n"
        "Content-Type: application/x-git-receive-pack-request\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    assert proxy.hostname
    assert proxy.port
    with socket.create_connection((proxy.hostname, proxy.port), timeout=20) as client:
        client.sendall(head.encode() + body[: len(body) // 2])
    until(lambda: "the client went away in the middle" in log(lab), "the server notices")
    assert main_of(env) == made
    git(env, "push", folder=work)
    again = cloned(env, tmp_path / "again")
    assert "error" not in git(env, "fsck", "--full", folder=again)
    assert git(env, "rev-parse", "HEAD", folder=again).strip() == wanted


def test_a_killed_server_comes_back_with_its_repositories(
    lab: Lab, env: dict[str, str], tmp_path: Path
) -> None:
    work = cloned(env, tmp_path / "work")
    made = commit(env, work, "readme")
    git(env, "push", folder=work)
    pod = lab.api.list("v1", "Pod", gitrepo.NAMESPACE)[0]
    volumes = lab.paths.node / "pods" / pod["metadata"]["uid"] / "volumes"
    repository = volumes / "repositories" / "platform.git"
    # As git leaves it when it is killed while it moves a branch.
    (repository / "refs" / "heads" / "main.lock").touch()
    os.kill(server(lab).pid, signal.SIGKILL)

    def is_back() -> bool:
        seen = lab.api.get("v1", "Pod", pod["metadata"]["name"], gitrepo.NAMESPACE) or {}
        (status,) = seen["status"]["containerStatuses"]
        return bool(status["restartCount"] and status["ready"])

    until(is_back, "the container is started again")
    until(lambda: run(env, "ls-remote", URL)[0] == 0, "the Service leads there again")
    assert main_of(env) == made
    commit(env, work, "more")
    git(env, "push", folder=work)


def test_without_git_there_is_one_clear_error(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="git is not on PATH"):
        gitrepo.clone(door, PLATFORM, tmp_path / "work")


# -- what Argo CD reads, and what terminals get ---------------------------------------------


def test_esos_chart_is_mirrored_once_and_always_the_same(
    door: Door, env: dict[str, str], tmp_path: Path
) -> None:
    assets = programs.resolve("external-secrets").assets
    made = []
    for _ in range(2):
        gitrepo.empty(door, EXTERNAL_SECRETS)
        assert gitrepo.mirror_external_secrets(door, assets)
        assert not gitrepo.mirror_external_secrets(door, assets)
        made.append(git(env, "ls-remote", gitrepo.url(EXTERNAL_SECRETS)))
    assert made[0] == made[1]
    assert f"refs/tags/{TAG}" in made[0]
    gitrepo.clone(door, EXTERNAL_SECRETS, tmp_path / "eso")
    chart = tmp_path / "eso" / "deploy" / "charts" / "external-secrets" / "Chart.yaml"
    assert "name: external-secrets\n" in chart.read_text()
    crds = tmp_path / "eso" / "deploy" / "crds" / "bundle.yaml"
    assert crds.read_bytes() == (assets / "crds" / "bundle.yaml").read_bytes()


def test_what_a_user_told_git_already_stays(tmp_path: Path) -> None:
    base = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.editor",
        "GIT_CONFIG_VALUE_0": "ed",
    }
    file = tmp_path / "a folder" / "credentials"
    once = gitconfig.variables(gitrepo.BASE_URL, file, base)
    assert gitconfig.variables(gitrepo.BASE_URL, file, base | once) == once
    listed = git(base | once, "config", "--list", folder=tmp_path).splitlines()
    assert listed[0] == "core.editor=ed"
    assert "user.name=Learner" in listed
    assert f"credential.{gitrepo.BASE_URL}.helper=store --file='{file}'" in listed
    (tmp_path / ".gitconfig").write_text("[user]\nname = Ada\n")
    for there in (base, base | once):
        found = gitconfig.read(gitconfig.variables(gitrepo.BASE_URL, file, there))
        assert "user.name" not in dict(found)
        assert dict(found)["user.email"] == dict(gitconfig.IDENTITY)["user.email"]
