"""Put a container together: its program, environment, files and ports, as one recipe.

This is where a pod's spec, the images table, the volumes on disk and the cluster network
meet; each of them is described in a module of its own.  Nothing is started here.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labkit.errors import LabError, NodeError
from labkit.node import hosts, images, logs
from labkit.node.container import Recipe
from labkit.node.environment import (
    STANDARD_PATH,
    ApiServerAddress,
    ContainerConfigError,
    base_environment,
    container_environment,
    expand,
    expand_command,
    service_environment,
)
from labkit.node.images import Image, ImageTable
from labkit.node.mounts import (
    SERVICE_ACCOUNT,
    Mode,
    Mount,
    Rewriter,
    User,
    View,
    is_covered,
    is_private,
)
from labkit.node.pod import Json, Pod
from labkit.node.podworker import CannotStart, PodWorker
from labkit.node.volumedirs import resolve_sub_path, sub_path
from labkit.paths import make_private_dir, write_private

_TERMINATION_LOG = "/dev/termination-log"
_HOSTS = "/etc/hosts"
_LOCAL = "127.0.0.1,localhost"
_SHELL_LINK = Path("image", "bin", "sh")  # below a container's folder
_SUBPATHS = "subpaths"  # below a container's folder: what its subPaths were at its start


@dataclass(frozen=True)
class Kitchen:
    """Makes recipes.  ``services`` gives all Services of the cluster as pods of a namespace
    are to see them now; ``proxy_url`` the forward proxy for such pods, credential included."""

    table: ImageTable
    mode: Mode
    pids: bool
    ca: Path
    api_server: ApiServerAddress
    services: Callable[[str], Iterable[Json]]
    proxy_url: Callable[[str], str]

    def image_id(self, image: str) -> str:
        """What runs for ``image``, as ``imageID`` in a pod's status."""
        row = self.table.find(image)
        return row.id if row else ""

    def ports(self, container: Json) -> frozenset[int]:
        """What a container listens on: the ports that it declares, and those that its image
        takes without being asked to."""
        declared = frozenset(int(port["containerPort"]) for port in container.get("ports") or ())
        image = self.table.find(container["image"])
        args = image.arguments(container) if image else None
        return declared | image.ports_in(args) if image and args else declared

    def fixed_ports(self, container: Json) -> frozenset[int]:
        """Ports that a container listens on, on this machine too: its program cannot be told
        another, so two such containers cannot run at once."""
        image = self.table.find(container["image"])
        args = image.arguments(container) if image else None
        if not image or not args:
            return frozenset()
        return image.fixed_ports.get(args[0], frozenset())

    def make(self, worker: PodWorker, container: Json, run: int) -> Recipe:
        """The recipe of ``container`` for its run number ``run``.  Raises CannotStart."""
        try:
            return self._make(worker, container, run)
        except ContainerConfigError as error:
            raise CannotStart(error.reason, error.message) from error
        except (NodeError, OSError) as error:
            raise CannotStart("CreateContainerError", str(error)) from error

    def _make(self, worker: PodWorker, container: Json, run: int) -> Recipe:
        pod, name = worker.pod, str(container["name"])
        image = self._image(container)
        folder = make_private_dir(worker.folder / "containers" / name)
        env = self._environment(worker, container, image, folder)
        argv = self._argv(container, image, env)
        message_file = folder / "termination-log"
        message_file.unlink(missing_ok=True)
        message_file.touch()
        message_file.chmod(0o666)  # whoever the container runs as; the folder is private
        volumes = tuple(self._volumes(worker, container, env, folder))
        mounts = [
            *volumes,
            *self._image_files(image, env, folder, volumes),
            *self._hosts(pod, container, folder),
            Mount(message_file, str(container.get("terminationMessagePath") or _TERMINATION_LOG)),
        ]
        if self.mode == "rewrite":
            mounts += _folders_of_files(mounts, folder / _SUBPATHS)
            if self._stand_in_for_token(mounts, env, folder):
                env |= image.without_token_path
        view = View(
            name=f"{pod.namespace}/{pod.name}/{name}",
            mode=self.mode,
            folder=folder,
            mounts=tuple(mounts),
            env=env,
            directory=str(container.get("workingDir") or "/"),
            hostname=pod.hostname,
            user=_user(pod, container),
            read_only_root=bool(
                (container.get("securityContext") or {}).get("readOnlyRootFilesystem")
            ),
            pids=self.pids,
        )
        return Recipe(
            container=container,
            argv=images.tell_ports(argv, worker.ports, flags=image.port_flags),
            wrap=view.command,
            pod_ip=worker.ip or "",
            ports=dict(worker.ports),
            log_file=logs.log_path(worker.log_folder(name), run),
            message_file=message_file,
        )

    def _image(self, container: Json) -> Image:
        image = self.table.find(container["image"])
        if image is None:
            raise CannotStart("ErrImagePull", self.table.refusal(container["image"]))
        try:
            image.locate()
            image.locate_tools()
        except LabError as error:
            raise CannotStart("ErrImagePull", str(error)) from error
        return image

    # -- what it runs --------------------------------------------------------------------

    def _argv(self, container: Json, image: Image, env: Mapping[str, str]) -> list[str]:
        """``command`` replaces the image's entrypoint and its args, ``args`` the args alone.

        Source: "Define a Command and Arguments for a Container" in Kubernetes' tasks.
        """
        command, args = expand_command(container, env)
        if command:
            words = [*command[1:], *args]
            if image.arguments(container) is not None:
                words = image.with_own_ports(words)
            return [command[0], *words]
        args = args or [expand(word, env) for word in image.args]
        args = image.with_own_ports(args)
        added = image.added.get(args[0], ()) if args else ()
        argv = [*image.entrypoint, *args, *added]
        if not argv:
            raise ContainerConfigError("the image has no command, and the container gives none")
        return argv

    def _environment(
        self, worker: PodWorker, container: Json, image: Image, folder: Path
    ) -> dict[str, str]:
        pod = worker.pod
        proxy = self.proxy_url(pod.namespace)
        env = {
            **base_environment(pod.hostname),
            **dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"), proxy),
            "NO_PROXY": _LOCAL,
            "no_proxy": _LOCAL,
            **image.env,
        }
        env["PATH"] = f"{self._program_folder(image, folder)}{env.get('PATH') or STANDARD_PATH}"
        own = container_environment(
            container,
            pod.object,
            lookup_secret=lambda name: worker.node.objects.find("Secret", pod.namespace, name),
            lookup_config_map=lambda name: worker.node.objects.find(
                "ConfigMap", pod.namespace, name
            ),
            services=service_environment(
                self.services(pod.namespace),
                pod.namespace,
                enable_service_links=bool(pod.spec.get("enableServiceLinks", True)),
                api_server=self.api_server,
            ),
            facts=worker.facts,
        )
        env |= own
        env = {name: images.with_real_ports(value, worker.ports) for name, value in env.items()}
        # Where to listen, for the many programs that ask PORT: its own, or else the first.
        first = next((str(port["containerPort"]) for port in container.get("ports") or ()), "")
        port = own.get("PORT", first)
        if port.isdecimal():
            env["PORT"] = str(worker.ports.get(int(port), port))
        return env

    def _program_folder(self, image: Image, folder: Path) -> str:
        """The front of PATH: ``kubectl exec vault-0 -- bao status`` finds its program."""
        if self.mode == "rewrite" and image.find_shell():
            return f"{folder / _SHELL_LINK.parent}:"
        if not image.place:
            return ""
        if self.mode == "mounts":
            parent = image.place.rpartition("/")[0]
            return f"{parent}:" if parent else ""
        found = (image.locate(), *image.locate_tools().values())
        return "".join(f"{program.parent}:" for program in found if program)

    # -- what it sees --------------------------------------------------------------------

    def _volumes(
        self, worker: PodWorker, container: Json, env: Mapping[str, str], folder: Path
    ) -> Iterable[Mount]:
        for number, mount in enumerate(container.get("volumeMounts") or ()):
            name = str(mount["name"])
            source = worker.volumes.path(name)
            if path := sub_path(mount, env):
                source = resolve_sub_path(
                    source,
                    path,
                    copy_to=folder / _SUBPATHS / str(number) / Path(mount["mountPath"]).name,
                    volume=name,
                    container=str(container["name"]),
                )
            yield Mount(source, str(mount["mountPath"]), bool(mount.get("readOnly")))

    def _image_files(
        self, image: Image, env: Mapping[str, str], folder: Path, volumes: Sequence[Mount]
    ) -> Iterable[Mount]:
        program = image.locate()
        if program is not None:
            for place in (image.place, *image.copies):
                yield Mount(program, place, read_only=True)
        for place, tool in image.locate_tools().items():
            yield Mount(tool, place, read_only=True)
        shell = image.find_shell()
        if shell is not None:
            # By a link of that name, which tells bash to be as sh is.
            link = folder / _SHELL_LINK
            make_private_dir(link.parent)
            link.unlink(missing_ok=True)
            link.symlink_to(shell)
            yield Mount(link, "/bin/sh", read_only=True)
        # A program of the user's own, with what lies beside it; never a whole home folder.
        for path in map(Path, image.program):
            if path.is_absolute() and path.exists() and is_covered(path):
                seen = path if is_private(path.parent) else path.parent
                yield Mount(seen, str(seen), read_only=True)
        for target, variable in image.files.items():
            source = folder / "image" / target.rpartition("/")[2]
            text = env.get(variable, "")
            if self.mode == "rewrite":  # as the variable itself: what the file says must be true
                text = Rewriter(volumes)(text)
            write_private(source, text)
            yield Mount(source, target, read_only=True)

    def _hosts(self, pod: Pod, container: Json, folder: Path) -> Iterable[Mount]:
        mounted = {mount["mountPath"] for mount in container.get("volumeMounts") or ()}
        if self.mode == "rewrite" or _HOSTS in mounted:
            return
        system = ""
        with contextlib.suppress(OSError):
            system = Path(_HOSTS).read_text(errors="replace")
        path = folder / "hosts"
        path.write_text(hosts.content(pod, system))
        path.chmod(0o644)  # for whoever the container runs as
        yield Mount(path, _HOSTS)

    def _stand_in_for_token(self, mounts: list[Mount], env: dict[str, str], folder: Path) -> bool:
        """A kubeconfig in place of the files that client libraries look for at fixed paths;
        False where it is not needed.

        It names the token's file, so a renewed token is picked up like in a real pod.
        """
        place = next((m.source for m in mounts if m.target == SERVICE_ACCOUNT), None)
        if place is None or "KUBECONFIG" in env:
            return False
        server = f"https://{self.api_server.host}:{self.api_server.port}"
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": "in", "cluster": {"server": server, "certificate-authority": str(self.ca)}}
            ],
            "users": [{"name": "in", "user": {"tokenFile": str(place / "token")}}],
            "contexts": [{"name": "in", "context": {"cluster": "in", "user": "in"}}],
            "current-context": "in",
        }
        with contextlib.suppress(OSError):
            config["contexts"][0]["context"]["namespace"] = (place / "namespace").read_text()
        path = folder / "kubeconfig"
        write_private(path, json.dumps(config))
        env["KUBECONFIG"] = str(path)
        return True


def _folders_of_files(mounts: Iterable[Mount], copies: Path) -> list[Mount]:
    """Folders that are there only since a subPath's copy is mounted in them: with nothing
    really mounted, a program told of the folder would not find the file."""
    targets = {mount.target for mount in mounts}
    found = {
        folder: Mount(mount.source.parent, folder, mount.read_only)
        for mount in mounts
        if mount.source.is_relative_to(copies)
        and (folder := str(Path(mount.target).parent)) not in targets
        and not Path(folder).exists()
    }
    return list(found.values())


def _user(pod: Pod, container: Json) -> User:
    """Whom the container runs as: its own securityContext before the pod's."""
    general = pod.spec.get("securityContext") or {}
    own = container.get("securityContext") or {}

    def setting(name: str) -> int | None:
        value = own.get(name, general.get(name))
        return None if value is None else int(value)

    groups = [int(each) for each in general.get("supplementalGroups") or ()]
    if general.get("fsGroup") is not None:
        groups.append(int(general["fsGroup"]))
    user = User(setting("runAsUser"), setting("runAsGroup"), tuple(dict.fromkeys(groups)))
    if user.user is not None and user.group is None:
        user = replace(user, group=0)  # as a container runtime does for a number it does not know
    return user
