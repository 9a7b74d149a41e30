"""A kubeconfig that signs in through a program, as those of clouds do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from labkit.errors import ClusterError, UsageError
from labkit.foreign import reach
from labkit.kube import Kube, kubeconfig
from real_cluster.conftest import Foreign


def with_plugin(foreign: Foreign, folder: Path, status: object) -> Path:
    """A kubeconfig whose plugin, beside it, answers ``status`` and counts how often."""
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    script = folder / "plugin"
    script.write_text(
        f"#!{sys.executable}\n"
        f"open({str(folder / 'calls')!r}, 'a').write('x')\n"
        f"print({json.dumps({**answer, 'status': status})!r})\n"
    )
    script.chmod(0o700)
    config = yaml.safe_load(foreign.kubeconfig.read_text())
    plugin = {"apiVersion": answer["apiVersion"], "command": "./plugin", "interactiveMode": "Never"}
    config["users"] = [{"name": each["name"], "user": {"exec": plugin}} for each in config["users"]]
    path = folder / "config"
    path.write_text(yaml.safe_dump(config))
    return path


def test_its_token_is_used_and_asked_for_again_when_it_ends(
    foreign: Foreign, tmp_path: Path
) -> None:
    token = foreign.kube.token("default", "default")
    path = with_plugin(
        foreign, tmp_path, {"token": token, "expirationTimestamp": "2000-01-01T00:00:00Z"}
    )
    target = reach(path)
    calls = len((tmp_path / "calls").read_text())
    target.kube.request("GET", "/version")
    assert len((tmp_path / "calls").read_text()) == calls + 1
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    (copy / "config").write_text(target.config)
    with Kube.from_kubeconfig(copy / "config") as again:  # the plugin is found from there, too
        assert again.request("GET", "/version")


def test_one_that_lasts_is_asked_for_once(foreign: Foreign, tmp_path: Path) -> None:
    token = foreign.kube.token("default", "default")
    target = reach(with_plugin(foreign, tmp_path, {"token": token}))
    target.kube.request("GET", "/version")
    assert (tmp_path / "calls").read_text() == "x"
    assert token not in repr(kubeconfig.read(tmp_path / "config"))


def test_what_it_cannot_give_is_said_in_a_line(foreign: Foreign, tmp_path: Path) -> None:
    path = with_plugin(foreign, tmp_path, None)
    with pytest.raises(UsageError, match=r"gave no credential.*no ExecCredential"):
        reach(path)
    (tmp_path / "plugin").write_text("#!/bin/sh\necho 'your session has ended' >&2\nexit 3\n")
    with pytest.raises(UsageError, match="your session has ended"):
        reach(path)
    (tmp_path / "plugin").unlink()
    with pytest.raises(UsageError, match="No such file"):
        reach(path)


def test_a_token_that_is_not_valid_is_no_way_in(foreign: Foreign, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="lets nobody in"):
        reach(with_plugin(foreign, tmp_path, {"token": "wrong"}))
