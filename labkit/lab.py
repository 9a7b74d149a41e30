"""The facade: one lab as notebooks, tests and the command line use it.

    lab = labkit.start()

Everything below talks to a Kubernetes API and to Services by name; where the cluster
came from is known to ``launch`` alone.  Start, stop, apply and reset are safe to repeat.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit import (
    abroad,
    argocli,
    environment,
    eso,
    evidence,
    gitops,
    gitrepo,
    journey,
    latency,
    launch,
    position,
    programs,
    status,
    vault,
    vaultadmin,
    workloads,
)
from labkit import app as demo
from labkit.errors import LabBusy, LabError, NoLab, UsageError, WaitTimeout
from labkit.foreign import Held, Kept
from labkit.journey import COURSE, Route
from labkit.kube import Applied, Kube, Object, is_condition, load_manifests, parse_manifests
from labkit.paths import DEFAULT_LAB, LabPaths, write_private
from labkit.position import Position
from labkit.record import Record
from labkit.trail import Witnesses
from labkit.vault import Engine, Reviewer

if TYPE_CHECKING:
    import hvac
    from kubernetes.client import ApiClient

Progress = Callable[[str], None]

_PATIENCE = 180.0  # seconds that another command may work on the same lab


def _silent(_: str) -> None:
    """Progress that nobody asked for."""


def start(
    name: str | None = None,
    *,
    sync: str | None = None,
    engine: str | None = None,
    argocd: bool = False,
    progress: Progress = print,
) -> Lab:
    """Attach to the lab called ``name``, bringing up whatever of it is not running.

    Sets KUBECONFIG, VAULT_ADDR, PATH and friends in this process, so that
    ``!kubectl get externalsecret`` works in the next cell.  ``progress`` gets one line
    a step (``lambda line: None`` for silence).  Raises LabError with a next step.
    """
    try:
        lab = up(name or default_name(), sync=sync, engine=engine, argocd=argocd, progress=progress)
    except (UsageError, LabBusy):
        raise
    except LabError as error:
        from labkit import doctor  # of use only now

        error.add_note(doctor.in_short())  # shown below the paragraph (see ``errors``)
        raise
    lab.enter()
    return lab


def default_name() -> str:
    """The lab meant when none is named: ``LABKIT_LAB``, or ``lab``."""
    return os.environ.get("LABKIT_LAB") or DEFAULT_LAB


def up(
    name: str,
    *,
    sync: str | None = None,
    engine: str | None = None,
    argocd: bool = False,
    kubeconfig: Path | None = None,
    context: str | None = None,
    progress: Progress = _silent,
) -> Lab:
    """Bring a lab up to the secret on the app's page; a no-op where it is there.

    In a lesson, only what every lesson needs: the rest is the learner's and the lesson's.

    ``engine`` and ``sync`` None keep those of a lab that runs already (OpenBao and watch
    for a new one).  ``argocd`` adds Argo CD and a Git server, until the lab goes down.
    ``kubeconfig`` (and ``context``; None: its current one) puts the lab into somebody else's
    cluster, until it goes down; a lab that is in one goes on there.
    Raises LabError when the lab runs another engine or mode than the one asked for.
    """
    paths = LabPaths.of(name)
    is_abroad = bool(kubeconfig or context or Kept.read(paths))
    if is_abroad:
        _check_abroad(sync, argocd)
    wanted = vault.engine(engine) if engine else None
    needed = wanted or vault.ENGINES["openbao"]
    if wanted and (record := launch.running(name)):
        _check_engine(Lab(paths, record), wanted)  # before its program is built for minutes
    plane = () if is_abroad else launch.PROGRAMS
    programs.ensure((*plane, "external-secrets", "kubectl", needed.program))
    if is_abroad:
        abroad.settle(name, kubeconfig, context, progress=progress)
        sync = abroad.SYNC
    lab = Lab(paths, launch.bring_up(name, sync=sync, on_progress=progress))
    # Vault is initialised once: two `up` at a time would each hold half of its keys.
    with launch.locked(paths, time.monotonic() + _PATIENCE, progress):
        if argocd and not lab.position.argocd:
            position.write(paths.position, replace(lab.position, argocd=True))
        _bring_up_workloads(lab, wanted, needed, progress)
    return lab


def _check_abroad(sync: str | None, argocd: bool) -> None:
    """Raises UsageError for what cannot be chosen in somebody else's cluster."""
    if sync is not None:
        raise UsageError(
            "How Secrets reach files is for the cluster's own nodes to say",
            seen=f"--sync {sync}",
            todo="Leave --sync out in somebody else's cluster.",
        )
    if argocd:
        raise UsageError(
            "Argo CD is not brought into somebody else's cluster yet",
            seen="--argocd",
            todo="Use a lab of its own for that: `labkit up --name git --argocd`.",
        )


def _check_engine(lab: Lab, wanted: Engine | None) -> Engine | None:
    """The engine that runs in the lab, if any.  Raises LabError when it is not ``wanted``."""
    running = workloads.engine_of(lab.api)
    if running and wanted and running != wanted:
        raise LabError(
            f"The lab {lab.name} runs {running.title}",
            seen=f"--vault {wanted.name}",
            todo=f"Take it down first (`labkit down --name {lab.name}`), "
            "or give the new one a name.",
        )
    return running


def _bring_up_workloads(
    lab: Lab, wanted: Engine | None, needed: Engine, progress: Progress
) -> None:
    running = _check_engine(lab, wanted)
    setup = lab.setup_for(running or needed)
    here = lab.position
    if here.argocd:  # a Git server whose pod was replaced has lost what the lab itself put there
        gitops.provide(lab.api, setup.gitops(), progress=progress)
    if not here.has("vault"):  # then all else comes from the learner's Git
        return
    if here.lesson is None:
        rest = replace(here, argocd=False)
        if not running or not workloads.is_up(lab.api, rest):
            workloads.bring_up(lab.api, setup, position=rest, progress=progress)
        return
    # The rest is the lesson's: the learner is about to make it, or has just broken it.
    if not workloads.is_platform_up(lab.api):
        is_new = workloads.bring_up_platform(lab.api, setup, progress=progress)
        if is_new:
            position.write(lab.paths.position, replace(here, is_set=False))
            progress(
                f"{lab.engine.title} had lost everything, and with it what lesson "
                f"{here.lesson:02} began with. `labkit lesson {here.lesson}` or the notebook's "
                "first cells begin it over."
            )


def down(
    name: str,
    *,
    kubeconfig: Path | None = None,
    context: str | None = None,
    forget: bool = False,
    progress: Progress = _silent,
) -> bool:
    """Take a lab down; whether there was one.  Safe to repeat.

    In somebody else's cluster it takes away what the lab brought, first.  ``kubeconfig`` does
    that for a lab whose folder this machine has lost; ``forget`` leaves out the cluster, for
    one that is gone for good.  Raises LabError, and keeps the lab then.
    """
    if kubeconfig is None and Kept.read(LabPaths.of(name)) is None:
        if context is not None or forget:
            raise UsageError(
                f"The lab {name} is in nobody else's cluster",
                todo="Leave --context and --forget out, or add --kubeconfig FILE.",
            )
        return launch.bring_down(name)
    return abroad.take_down(name, kubeconfig, context, forget=forget, progress=progress)


def attach(name: str | None = None) -> Lab:
    """The running lab of that name; raises NoLab when there is none."""
    chosen = name or default_name()
    record = launch.running(chosen)
    if record is None:
        option = "" if chosen == DEFAULT_LAB else f" --name {chosen}"
        raise NoLab(f"No lab called {chosen} is running", todo=f"Start it: `labkit up{option}`.")
    return Lab(LabPaths.of(chosen), record)


@dataclass
class Lab:
    """A running lab.  ``api`` is labkit's small client, ``kube`` the official one."""

    paths: LabPaths
    record: Record = field(repr=False)

    @property
    def name(self) -> str:
        return self.paths.name

    @property
    def kubeconfig(self) -> Path:
        return self.paths.kubeconfig

    @cached_property
    def api(self) -> Kube:
        """The Kubernetes API as the learner's (cluster-admin) identity; in somebody else's
        cluster, as the given kubeconfig's, and careful with what is others' (``foreign.Held``).
        """
        return abroad.held(self.paths) or Kube.from_kubeconfig(self.paths.kubeconfig)

    @cached_property
    def kube(self) -> ApiClient:
        """The official Python client's ApiClient, for ``kubernetes.client.CoreV1Api(lab.kube)``."""
        from kubernetes import config  # slow to import: only lessons pay for it

        client: ApiClient = config.new_client_from_config(str(self.paths.kubeconfig))
        return client

    @property
    def vault(self) -> hvac.Client:
        """A client of the lab's Vault with the rights of its administrator.

        That is the root token of the Vault that the lab made.  One that came from Git has
        none: there the administrator is a ServiceAccount, who logs in when need be.
        """
        try:
            client = vault.open_client(self.api, self.paths.vault_token.read_text())
        except FileNotFoundError:
            if self.position.has("vault"):
                raise LabError(
                    "This lab's Vault has no token yet",
                    todo="Run `labkit up` to finish its set-up.",
                ) from None
        else:
            if self.position.has("vault") or vault.knows_token(client):
                return client
        token = vaultadmin.login(self.api, timeout=2.0)
        write_private(self.paths.vault_token, token)
        return vault.open_client(self.api, token)

    @property
    def app(self) -> demo.App:
        """The demo application."""
        return demo.App(self.api, demo.address(self.api, door=self.paths.page_url))

    @property
    def engine(self) -> Engine:
        """OpenBao or HashiCorp Vault: whichever runs in the cluster."""
        return workloads.engine_of(self.api) or vault.ENGINES["openbao"]

    @property
    def position(self) -> Position:
        """Which lesson the lab is in, and what it therefore provides."""
        return position.read(self.paths.position)

    @property
    def is_abroad(self) -> bool:
        """Whether the lab is in somebody else's cluster."""
        return self.api.is_shared

    @property
    def sync(self) -> str:
        """How Secrets reach files on this node: ``watch`` or ``kubelet``."""
        return self.record.sync

    def setup_for(self, engine: Engine) -> workloads.Setup:
        """What ``workloads`` needs to know of this lab."""
        eso_program = programs.resolve("external-secrets")
        return workloads.Setup(
            engine=engine,
            crds=eso_program.assets / "crds" / "bundle.yaml",
            token=self.paths.vault_token,
            unseal_key=self.paths.vault_unseal_key,
            reviewer=self._reviewer,
            gitops=self._gitops,
            provide_app=abroad.provide_app,
        )

    def _gitops(self) -> gitops.Access:
        found = programs.ensure(gitops.PROGRAMS)
        return gitops.Access(
            crds=found["argocd"].assets / "crds",
            eso_assets=programs.resolve("external-secrets").assets,
            git=gitrepo.Door(self.paths.git_credentials, self.paths.proxy_url),
        )

    def _reviewer(self) -> Reviewer:
        if self.is_abroad or self.record.mode == "mounts":
            return Reviewer()
        # Vault looks for its token at one fixed path, which only a mount can provide.
        return Reviewer(
            ca=self.api.ca,
            jwt=self.api.token("vault", vault.NAMESPACE, seconds=24 * 3600),
        )

    def enter(self) -> None:
        """Set this lab's environment in this process (see ``environment``)."""
        environment.enter(self.variables())

    def variables(self) -> list[environment.Variable]:
        """What a shell or a kernel needs for kubectl, bao and curl to just work."""
        wanted = ["kubectl", self.engine.program]
        dirs: list[Path] = []
        if self.position.argocd:
            wanted.append("helm")
            program = programs.resolve("argocd").path
            dirs.append(argocli.write(self.paths.commands, program, self.kubeconfig).parent)
        dirs += (programs.resolve(program).path.parent for program in wanted)
        return environment.variables(self.paths, self.engine, tuple(dirs), os.environ)

    # -- doing things -----------------------------------------------------------------

    def apply(self, manifest: str | Path, *, namespace: str | None = None) -> list[Applied]:
        """Apply a YAML file, a folder of them, or YAML text, like ``kubectl apply``.

        Objects that name no namespace go to ``namespace`` (default: the kubeconfig's).
        Raises ManifestError when the text is not YAML or the cluster does not know a
        kind; nothing is applied unless every object's kind is known.
        """
        is_text = isinstance(manifest, str) and ("\n" in manifest or ": " in manifest)
        objects = (
            parse_manifests(str(manifest), "the text")
            if is_text
            else load_manifests(self._file(Path(manifest)))
        )
        promised = {
            (crd["spec"]["group"], crd["spec"]["names"]["kind"])
            for crd in objects
            if crd["kind"] == "CustomResourceDefinition"
        }
        for obj in objects:
            if (obj["apiVersion"].rpartition("/")[0], obj["kind"]) not in promised:
                self.api.resource(obj["apiVersion"], obj["kind"])
        return [self.api.apply(obj, namespace=namespace) for obj in objects]

    def _file(self, path: Path) -> Path:
        # "manifests/…" works from any folder: a notebook's is not the repository's.
        if path.exists() or path.is_absolute() or path.parts[:1] != ("manifests",):
            return path
        from labkit.paths import manifest

        return manifest(str(Path(*path.parts[1:])))

    def wait_for(
        self,
        what: str,
        condition: str | Callable[[Object | None], bool] = "Ready",
        *,
        namespace: str | None = None,
        timeout: float = 60.0,
    ) -> Object | None:
        """Wait for one object, like ``kubectl wait``.

        ``what`` is ``kind/name`` in kubectl's words; ``condition`` a condition that
        must be True, or a function of the object (None while it does not exist).
        ``timeout`` is in seconds.  Raises WaitTimeout with what was seen last: conditions,
        and the newest warning event, which is where ESO puts the provider's own words.
        """
        __tracebackhide__ = True  # for pytest: the error says it all, and the test's line shows
        word, _, name = what.partition("/")
        resource = self.api.find(word)
        where = (namespace or self.api.namespace) if resource.namespaced else None
        is_met = condition if callable(condition) else lambda seen: is_condition(seen, condition)
        awaited = "as awaited" if callable(condition) else f"{condition}=True"
        try:
            return self.api.wait(resource, name, where, is_met, awaited=awaited, timeout=timeout)
        except WaitTimeout as error:
            event = eso.last_warning(self.api, name, where or "default")
            seen = "; ".join(filter(None, (error.seen, event)))
            raise WaitTimeout(error.what, seen=seen, todo=error.todo) from None

    def journey(
        self,
        values: Mapping[str, str] | None = None,
        *,
        forced: bool = True,
        timeout: float = 60.0,
        client: str = "labkit",
        route: Route = COURSE,
    ) -> journey.Journey:
        """Rotate the app's credentials and follow them to the page, hop by hop.

        ``values`` None writes the present ones with a new random password; ``route`` is
        another secret's way to another app.  See ``journey.rotate`` for the rest.
        """
        current = vault.read(self.vault, key=route.key) or workloads.first_values()
        return journey.rotate(
            self.api,
            self.vault,
            values or {**current, "password": workloads.new_password()},
            witnesses=self._witnesses,
            forced=forced,
            timeout=timeout,
            client_name=client,
            route=route,
        )

    @property
    def _witnesses(self) -> Witnesses:
        if self.is_abroad:  # whose logs are not ours to read
            return Witnesses(api_audit=None, node_journal=None, sync=self.sync)
        return Witnesses(
            api_audit=self.paths.api_audit, node_journal=self.paths.journal, sync=self.sync
        )

    def latencies(
        self, *, rotations: int = 20, modes: Sequence[str] = latency.MODES
    ) -> latency.Latencies:
        """Measure many rotations hop by hop, in a namespace of their own: a table and a plot.

        See ``latency.measure``: with the defaults it takes about a minute.
        """
        return latency.measure(
            self.api,
            self.vault,
            witnesses=self._witnesses,
            rotations=rotations,
            modes=modes,
            provide_app=abroad.provide_app,
            on_progress=print,
        )

    def story(
        self, *, subject: evidence.Subject | None = None, start: float | None = None
    ) -> evidence.Story:
        """The latest passage of a secret from Git to page, in twelve steps with evidence.

        ``subject`` is whose (None: the app's); ``start`` (unix seconds) is what times are
        told from.  See ``evidence.story`` for the rest.
        """
        return evidence.story(
            self.api,
            api_audit=self._witnesses.api_audit,
            node_journal=self._witnesses.node_journal,
            subject=subject or evidence.Subject(),
            start=start,
        )

    def reset(self, *, progress: Progress = _silent) -> None:
        """Back to a clean lab: what ``up`` made, and nothing else; no lesson."""
        here = self.position
        argocd = here.lesson is None and here.argocd
        self.move_to(Position(argocd=argocd), progress=progress)

    def move_to(
        self,
        there: Position,
        *,
        finish: Callable[[], object] | None = None,
        progress: Progress = _silent,
    ) -> None:
        """Take away whatever was made in the lab and set it up as far as ``there`` says.

        ``finish`` does what is left to do before it counts as being there.  The same from
        any state, a half-broken one too; safe to repeat.
        """
        if isinstance(self.api, Held):
            abroad.check_move(self.api, there)
        setup = self.setup_for(self.engine)
        # Two notebooks may ask at once: one after the other, or both would be half done.
        with launch.locked(self.paths, time.monotonic() + _PATIENCE, progress):
            # Written first: if this is interrupted, the next `up` goes on to the same place.
            position.write(self.paths.position, replace(there, is_set=False))
            workloads.clean(self.api, setup, position=there, progress=progress)
            shutil.rmtree(self.paths.platform, ignore_errors=True)
            workloads.bring_up(self.api, setup, position=there, progress=progress)
            if finish:
                finish()
            position.write(self.paths.position, there)

    def is_in_order(self) -> bool:
        """Whether what the lab itself provides, where it is in the course, works."""
        return workloads.is_up(self.api, self.position)

    def stop(self) -> None:
        """Stop everything of this lab; safe to repeat."""
        down(self.name)

    def status(self) -> dict[str, Any]:
        """What runs (the contract of ``labkit status --json``); see ``status.of``."""
        return status.of(self.name)
