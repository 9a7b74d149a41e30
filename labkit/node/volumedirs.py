"""The folders behind volumes: emptyDirs, places for nested mounts, and subPaths.

Works on a pod's volume folders on this machine's disk.  ``projection`` fills them with
content, ``mounts`` shows them to containers.

Source: ``makeMounts`` in ``pkg/kubelet/kubelet_pods.go``, ``pkg/volume/util/
nested_volumes.go`` and ``pkg/volume/util/subpath`` of Kubernetes 1.37.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.errors import NodeError
from labkit.node.environment import ContainerConfigError, expand_sub_path
from labkit.node.projection import DATA_DIR

Object = Mapping[str, Any]

_VOLUME_MODE = 0o777


def make_volume_dir(path: Path, *, fs_group: int | None = None) -> Path:
    """Create a volume's folder with mode 0777 as every emptyDir has; safe to repeat.

    It is the pod's own folder (0700) that keeps others out.  With ``fs_group`` the folder
    is the group's and new files in it too, where this process may do that.
    """
    path.mkdir(parents=True, exist_ok=True)
    if fs_group is None:
        path.chmod(_VOLUME_MODE)
        return path
    with contextlib.suppress(PermissionError):
        os.chown(path, -1, fs_group)
    path.chmod(_VOLUME_MODE | stat.S_ISGID)
    return path


def make_nested_mountpoints(volume: str, directory: Path, pod: Object) -> None:
    """Create the folders in ``directory`` on which other volumes of the pod are mounted.

    For a volume at /a and another at /a/b/c: the folder ``b/c``.  Only the outermost one,
    since the next is inside the other volume.  To be done before content is written.
    """
    spec = pod.get("spec") or {}
    for key in ("initContainers", "containers"):
        for container in spec.get(key) or ():
            mounts = container.get("volumeMounts") or ()
            places = sorted(posixpath.normpath(mount["mountPath"]) for mount in mounts)
            for mount in mounts:
                if mount["name"] != volume:
                    continue
                parent = posixpath.normpath(mount["mountPath"]) + "/"
                done: list[str] = []
                for place in places:
                    if place.startswith(parent) and not place.startswith(tuple(done)):
                        done.append(place + "/")
                        nested = directory / place.removeprefix(parent)
                        nested.mkdir(mode=0o755, parents=True, exist_ok=True)


def sub_path(mount: Object, env: Mapping[str, str]) -> str:
    """The mount's ``subPath``, or its ``subPathExpr`` filled in from ``env``; "" for neither.

    Raises ContainerConfigError for a path that is absolute or steps back.
    """
    path = mount.get("subPath") or ""
    if expression := mount.get("subPathExpr"):
        path = expand_sub_path(expression, env)
    if path.startswith("/"):
        raise ContainerConfigError(f"error SubPath `{path}` must not be an absolute path")
    if ".." in path.split("/"):
        raise ContainerConfigError(f"unable to provision SubPath `{path}`: must not contain '..'")
    return path


def resolve_sub_path(
    volume_dir: Path, path: str, *, copy_to: Path, volume: str = "", container: str = ""
) -> Path:
    """The file or folder that a container with this ``subPath`` gets, found once, at its start.

    In a volume with live content (emptyDir) it is the thing itself, made as a folder if it
    is not there.  In one written by ``projection`` it is a copy at ``copy_to``: the kubelet
    binds the file of the moment, which later updates replace but do not change, so its
    container never sees them.  Raises ContainerConfigError if links lead out of the volume.
    """
    written = os.path.lexists(volume_dir / DATA_DIR)
    root = volume_dir.resolve()
    found = (volume_dir / path).resolve()
    if not found.is_relative_to(root):
        raise ContainerConfigError(
            f'failed to prepare subPath for volumeMount "{volume}" of container "{container}"'
        )
    if not written:
        if not found.exists():
            found.mkdir(parents=True)
            for made in (found, *found.parents):
                if made == root:
                    break
                made.chmod(stat.S_IMODE(root.stat().st_mode))
        return found
    _remove(copy_to)
    copy_to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        if found.is_dir():
            shutil.copytree(found, copy_to, symlinks=True)
        elif found.exists():
            shutil.copy2(found, copy_to)
            info = found.stat()
            with contextlib.suppress(PermissionError):
                os.chown(copy_to, info.st_uid, info.st_gid)
        else:
            copy_to.mkdir(mode=0o755)
    except OSError as error:
        raise NodeError("A subPath could not be copied", seen=str(error)) from error
    return copy_to


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
