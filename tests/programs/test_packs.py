"""Packs: written from real builds, carried elsewhere, and believed in nothing."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from labkit import programs
from labkit.errors import LabError, ProgramError, UsageError
from labkit.programs import pack, packlock, source
from labkit.programs.catalogue import Entry, GoModule
from labkit.programs.download import download, masked
from labkit.programs.packlock import PackLock, Pinned
from labkit.programs.store import Store

from .conftest import Ensure

Install = Callable[..., dict[str, programs.Program]]


@dataclass
class Kit:
    """A built program, what is locked of it, its pack, and a cache elsewhere to install into."""

    catalogue: dict[str, Entry]
    module: GoModule
    store: Store
    lock: PackLock
    path: Path
    elsewhere: Path

    def install(self, place: str | Path | None = None, **options: object) -> programs.Program:
        options = {
            "catalogue": self.catalogue,
            "cache": self.elsewhere,
            "progress": programs.silent,
            "lock": self.lock,
            "pack": str(place or self.path),
            **options,
        }
        return programs.ensure(["tinier"], **options)["tinier"]  # type: ignore[arg-type]

    @property
    def installed(self) -> list[str]:
        """What is below the cache elsewhere and no lock."""
        files = (path for path in self.elsewhere.rglob("*") if path.is_file())
        names = [str(file.relative_to(self.elsewhere)) for file in files]
        return [name for name in names if not name.endswith((".lock", "verified.json"))]


@pytest.fixture
def kit(tiny: dict[str, Entry], cache: Path, tmp_path: Path, ensure: Ensure) -> Kit:
    ensure()
    store, module = Store(cache), tiny["tiny"].source
    assert isinstance(module, GoModule)
    manifest = store.read(module)
    assert manifest
    pinned = Pinned(manifest.lock, manifest.go, manifest.files)
    lock = PackLock(packlock.platform_name(), {"tiny": pinned})
    made = write(store, module, tiny, lock, tmp_path / "packs")
    return Kit(tiny, module, store, lock, made, tmp_path / "elsewhere")


def write(
    store: Store, module: GoModule, catalogue: dict[str, Entry], lock: PackLock, folder: Path
) -> Path:
    return pack.write(
        [module], store, lock, folder, catalogue=catalogue, progress=programs.silent, level=3
    ).path


# -- there and back -------------------------------------------------------------------


def test_a_pack_brings_the_same_program_to_a_machine_without_go(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_GO", "/nowhere/go")
    found = kit.install()
    assert found.sha256 == kit.lock.builds["tiny"].files["tinier"]
    said = subprocess.run([found.path], capture_output=True, text=True, check=True).stderr
    assert said == f"I am {found.path}\n"
    assert (found.path.parent / "tiny").samefile(found.path), "one file by two names"
    again = programs.resolve("tiny", catalogue=kit.catalogue, cache=kit.elsewhere)
    assert again.origin == "cache"


def test_the_same_builds_give_the_same_archive(kit: Kit, tmp_path: Path) -> None:
    again = write(kit.store, kit.module, kit.catalogue, kit.lock, tmp_path / "again")
    assert again.name == kit.path.name
    assert again.read_bytes() == kit.path.read_bytes()
    assert list(again.parent.iterdir()) == [again], "nothing half-written beside it"


def test_a_build_is_the_same_bytes_wherever_it_is_made(
    kit: Kit, standard_library: Path, tmp_path: Path
) -> None:
    """With an edit, too: no place of this machine may get into the binary."""
    up = tmp_path / "up"
    up.mkdir()
    (up / "go.mod").write_text("module up\n\ngo 1.26.0\n")
    (up / "up.go").write_text('package up\n\nfunc Word() string { return "old" }\n')
    folder = tmp_path / "edited"
    folder.mkdir()
    (folder / "go.mod").write_text(
        f"module edited\n\ngo 1.26.0\n\nrequire up v0.0.0\n\nreplace up => {up}\n"
    )
    (folder / "main.go").write_text(
        'package main\n\nimport "up"\n\nfunc main() { println(up.Word()) }\n'
    )
    module = GoModule(
        folder=folder, names=("edited",), module="up", disk=10**8,
        edits=(("up.go", '"old"', '"new"'),),
    )  # fmt: skip
    catalogue = {"edited": Entry("edited", "1.0", module)}
    made = []
    for place in ("here", "in/quite/another/place"):
        cache = tmp_path / place
        (cache / "go").mkdir(parents=True)
        (cache / "go" / "build").symlink_to(standard_library)
        found = programs.ensure(
            ["edited"], catalogue=catalogue, cache=cache, progress=programs.silent
        )["edited"]
        said = subprocess.run([found.path], capture_output=True, text=True, check=True).stderr
        assert said == "new\n"
        assert str(tmp_path).encode() not in found.path.read_bytes()
        made.append(found.sha256)
    assert made[0] == made[1]


def test_an_index_says_how_each_program_was_made_and_what_binds_it(kit: Kit) -> None:
    import tarfile

    import zstandard

    with (
        kit.path.open("rb") as raw,
        zstandard.ZstdDecompressor().stream_reader(raw) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        names = []
        for member in archive:
            if not names:
                content = archive.extractfile(member)
                assert content
                index = json.load(content)
            names.append(member.name)
            assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
    assert names == ["pack.json", "licences/go/LICENSE", "licences/go/PATENTS", "tiny/tiny",
                     "tiny/tinier"]  # fmt: skip
    build = index["builds"]["tiny"]
    assert build["programs"] == {"tiny": "1.0", "tinier": "1.0"}
    assert (build["licence"], build["licences"][0]) == ("Apache-2.0", "licences/go/LICENSE")
    assert build["built"]["flags"] == ["-trimpath", "-buildvcs=false"]
    assert build["files"]["tiny"]["sha256"] == kit.lock.builds["tiny"].files["tiny"]


# -- what is no good ------------------------------------------------------------------


def repack(kit: Kit, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The pack with other contents, and sound in itself: only the lock can tell."""
    import io
    import tarfile

    import zstandard

    with (
        kit.path.open("rb") as raw,
        zstandard.ZstdDecompressor().stream_reader(raw) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        members = {}
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            members[member.name] = content.read() if content else members["tiny/tiny"]
    change(members)
    other = kit.path.with_name(f"{packlock.prefix(packlock.platform_name())}other.tar.zst")
    with (
        other.open("wb") as raw,
        zstandard.ZstdCompressor().stream_writer(raw) as stream,
        tarfile.open(fileobj=stream, mode="w|") as archive,
    ):
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return other


def index_with(**changes: object) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members["pack.json"] = json.dumps(json.loads(members["pack.json"]) | changes).encode()

    return change


def altered(members: dict[str, bytes]) -> None:
    members["tiny/tiny"] = members["tiny/tiny"][:-1] + b"?"


def stowaway(members: dict[str, bytes]) -> None:
    members["tiny/../../../evil"] = b"#!/bin/sh\n"


def incomplete(members: dict[str, bytes]) -> None:
    del members["tiny/tinier"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (altered, r"truncated or altered.*tiny/tiny has SHA-256"),
        (stowaway, r"truncated or altered.*does not belong into it"),
        (incomplete, r"truncated or altered.*tiny lacks tinier"),
        (index_with(platform="plan9-mips"), r"another platform.*plan9-mips; this is"),
        (index_with(format=7), r"truncated or altered.*format 7"),
        (index_with(builds={"go": {"lock": "", "files": {}}}), r"none of the programs.*has go"),
        (
            index_with(builds={"tiny": {"lock": "another", "files": {}}}),
            r"another version of the kit.*tiny is not as this version pins it",
        ),
    ],
    ids=["altered", "stowaway", "incomplete", "platform", "format", "other builds", "version"],
)
def test_what_is_not_locked_is_not_installed(
    kit: Kit, change: Callable[[dict[str, bytes]], None], words: str
) -> None:
    with pytest.raises(ProgramError, match=words):
        kit.install(repack(kit, change))
    assert kit.installed == []
    assert kit.install().version == "1.0", "and a good one is"


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 0.999])
def test_a_truncated_pack_installs_nothing(kit: Kit, kept: float) -> None:
    whole = kit.path.read_bytes()
    kit.path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ProgramError, match=r"truncated or altered"):
        kit.install()
    assert kit.installed == []


def test_every_byte_counts(kit: Kit) -> None:
    """A bit that flipped anywhere is noticed: by zstd's checksum, tar, or the lock."""
    whole = bytearray(kit.path.read_bytes())
    for place in range(10, len(whole) - 1, len(whole) // 12):
        kit.path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ProgramError):
            kit.install()
        assert kit.installed == []


def test_a_login_page_is_no_pack(kit: Kit) -> None:
    kit.path.write_text("<html><title>Hotel Wi-Fi: please sign in</title>")
    with pytest.raises(ProgramError, match=r"not a pack.*Hotel.*login page"):
        kit.install()


def test_places_without_a_pack(kit: Kit, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match="no such pack"):
        kit.install(tmp_path / "none.tar.zst")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ProgramError, match=r"no pack for .*no pack at all.*would be called gitops"):
        kit.install(empty)
    with pytest.raises(UsageError, match=r"file, a folder or an http"):
        kit.install("ftp://127.0.0.1/x.tar.zst")
    assert kit.install(kit.path.parent).version == "1.0", "a folder with one"


def test_too_little_room_is_said_before_and_a_full_disk_in_the_middle(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ProgramError, match=r"too little room"):
        kit.install(free=lambda _: 1000)

    def full(path: Path, *args: object, **options: object) -> object:
        if "made" in path.parts and args == ("wb",):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return open_(path, *args, **options)  # type: ignore[arg-type]

    open_ = Path.open
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(ProgramError, match=r"disk filled up"):
            kit.install()
    assert kit.installed == []


def test_what_is_packed_is_what_is_locked(kit: Kit, tmp_path: Path) -> None:
    files = {**kit.lock.builds["tiny"].files, "tiny": "0" * 64}
    other = PackLock(kit.lock.platform, {"tiny": replace(kit.lock.builds["tiny"], files=files)})
    for lock, words in (
        (other, r"not the build that is locked.*tiny: .*locked: 000000000000"),
        (PackLock(kit.lock.platform, {}), r"not in the lock of packs"),
    ):
        with pytest.raises(ProgramError, match=words):
            write(kit.store, kit.module, kit.catalogue, lock, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    program = kit.store.folder(kit.module) / "tiny"
    program.chmod(0o755)
    program.write_bytes(b"edited")
    with pytest.raises(ProgramError, match=r"cannot be packed"):
        write(kit.store, kit.module, kit.catalogue, kit.lock, tmp_path / "none")


def test_only_builds_of_the_pinned_go_are_locked(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    go = kit.lock.builds["tiny"].go
    monkeypatch.setattr("labkit.programs.golang.WHEEL_VERSION", go)
    assert pack.lock_of([kit.module], kit.store) == kit.lock
    monkeypatch.setattr("labkit.programs.golang.WHEEL_VERSION", "1.99.0")
    with pytest.raises(ProgramError, match=rf"another Go than the pinned 1.99.0.*Go {go}"):
        pack.lock_of([kit.module], kit.store)


def test_a_lock_is_kept_by_platform_and_a_broken_one_is_named(kit: Kit, tmp_path: Path) -> None:
    file = tmp_path / "packs.lock"
    assert packlock.read(file).builds == {}
    elsewhere = PackLock("plan9-mips", kit.lock.builds)
    packlock.write(elsewhere, file)
    packlock.write(kit.lock, file)
    assert packlock.read(file) == kit.lock
    assert set(json.loads(file.read_text())["platforms"]) == {"plan9-mips", kit.lock.platform}
    file.write_text("{")
    with pytest.raises(ProgramError, match=r"packs.lock"):
        packlock.read(file)


# -- over the network -----------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """A server of one folder that knows ranges, and can be made to break."""

    folder: ClassVar[Path]
    asked: ClassVar[list[tuple[str, str]]]
    break_after: ClassVar[list[int]]
    tag: ClassVar[str] = '"1"'
    status: ClassVar[int] = 0

    def do_GET(self) -> None:
        path = self.path.partition("://127.0.0.1")[2] or self.path  # as a proxy is asked
        path = "/" + path.partition("/")[2]
        self.asked.append((path, self.headers.get("Range", "")))
        file = self.folder / path.rpartition("/")[2]
        if self.status or not file.is_file():
            self.send_error(self.status or 404)
            return
        data = file.read_bytes()
        start = 0
        if (asked := self.headers.get("Range")) and self.headers["If-Range"] == self.tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("ETag", self.tag)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = start + self.break_after.pop(0) if self.break_after else len(data)
        self.wfile.write(data[start:end])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(kit: Kit) -> Iterator[tuple[str, type[Handler]]]:
    class Mine(Handler):
        folder = kit.path.parent
        asked: ClassVar[list[tuple[str, str]]] = []
        break_after: ClassVar[list[int]] = []

    with ThreadingHTTPServer(("127.0.0.1", 0), Mine) as listening:
        thread = threading.Thread(target=partial(listening.serve_forever, 0.01))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", Mine
        listening.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_broken_download_goes_on_where_it_was(
    kit: Kit, server: tuple[str, type[Handler]]
) -> None:
    url, handler = server
    size = kit.path.stat().st_size
    handler.break_after[:] = [size // 3, size // 3]
    assert kit.install(f"{url}/{kit.path.name}").version == "1.0"
    starts = [asked for _, asked in handler.asked]
    assert starts == ["", f"bytes={size // 3}-", f"bytes={2 * (size // 3)}-"]
    assert not list(kit.elsewhere.glob("downloads/*")), "what was fetched is not kept twice"


def test_a_file_that_changed_meanwhile_is_fetched_anew(
    tmp_path: Path, kit: Kit, server: tuple[str, type[Handler]]
) -> None:
    url, _ = server
    target = tmp_path / "fetched"
    part = tmp_path / "fetched.part"
    part.write_bytes(b"the beginning of another file")
    (tmp_path / "fetched.part.version").write_text('"0"')
    download(f"{url}/{kit.path.name}", target, progress=programs.silent)
    assert target.read_bytes() == kit.path.read_bytes()
    assert not part.exists()


def test_a_server_that_refuses_or_is_not_there(
    kit: Kit, server: tuple[str, type[Handler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = server
    with pytest.raises(ProgramError, match=r"could not be fetched.*HTTP 404"):
        kit.install(f"{url}/none.tar.zst")
    monkeypatch.setattr("labkit.programs.download._PAUSES", (0.0,))
    with pytest.raises(ProgramError, match=r"could not be fetched.*refused"):
        kit.install("http://127.0.0.1:9/x.tar.zst")
    assert masked("https://me:secret@host/x?token=1") == "https://host/x"


def test_through_a_proxy_and_one_that_lies(
    kit: Kit, server: tuple[str, type[Handler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = server
    monkeypatch.setenv("http_proxy", url.replace("//", "//me:hunter2@"))
    assert kit.install(f"http://packs.example/{kit.path.name}").version == "1.0"
    shutil.rmtree(kit.elsewhere)
    handler.status = 403
    with pytest.raises(ProgramError, match=r"HTTP 403.*through the proxy http://127") as failure:
        kit.install(f"http://packs.example/{kit.path.name}")
    assert "hunter2" not in str(failure.value)


# -- tried by itself ------------------------------------------------------------------


def test_a_release_is_tried_before_anything_is_built(
    kit: Kit, server: tuple[str, type[Handler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = server
    monkeypatch.setenv("LABKIT_GO", "/nowhere/go")
    monkeypatch.setenv("LABKIT_PACKS", f"{url}/me/kit/releases/download/")
    found = programs.ensure(
        ["tiny"], catalogue=kit.catalogue, cache=kit.elsewhere, lock=kit.lock,
        progress=programs.silent,
    )["tiny"]  # fmt: skip
    assert found.origin == "built"
    ((path, _),) = handler.asked
    digest = kit.path.name.removeprefix(packlock.prefix(kit.lock.platform)).partition(".")[0]
    assert path == f"/me/kit/releases/download/programs-{digest}/{kit.path.name}"


def test_where_none_is_to_be_had_it_is_built_and_that_is_said(
    kit: Kit, server: tuple[str, type[Handler]], standard_library: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    url, _ = server
    (kit.elsewhere / "go").mkdir(parents=True)
    (kit.elsewhere / "go" / "build").symlink_to(standard_library)
    kit.path.unlink()
    monkeypatch.setenv("LABKIT_PACKS", f"{url}/")
    events: list[programs.Event] = []
    found = programs.ensure(
        ["tiny"], catalogue=kit.catalogue, cache=kit.elsewhere, lock=kit.lock,
        progress=events.append,
    )["tiny"]  # fmt: skip
    assert found.sha256 == kit.lock.builds["tiny"].files["tiny"], "the same bytes either way"
    (told,) = [event for event in events if event.title == "Pack"]
    assert "not used" in told.stage
    assert "HTTP 404" in told.detail


def test_nothing_is_asked_for_what_could_not_be_checked(
    kit: Kit, server: tuple[str, type[Handler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = server
    monkeypatch.setenv("LABKIT_PACKS", f"{url}/")
    monkeypatch.setenv("LABKIT_GO", "/nowhere/go")
    with contextlib.suppress(LabError):
        programs.ensure(
            ["tiny"], catalogue=kit.catalogue, cache=kit.elsewhere,
            lock=PackLock(kit.lock.platform, {}), progress=programs.silent,
        )  # fmt: skip
    assert handler.asked == []


@pytest.mark.parametrize(
    ("repository", "releases"),
    [
        ("https://github.com/me/kit.git", "https://github.com/me/kit/releases/download/"),
        ("git@github.com:me/kit.git", "https://github.com/me/kit/releases/download/"),
        ("https://github.com/me/kit/", "https://github.com/me/kit/releases/download/"),
        ("/srv/kit", ""),
        ("https://git.example/me/kit", ""),
    ],
)
def test_releases_are_where_the_repository_is(repository: str, releases: str) -> None:
    assert source.releases_of(repository) == releases
