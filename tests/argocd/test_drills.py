"""What goes wrong with GitOps and secrets: made, seen in Argo CD, mended."""

from __future__ import annotations

import base64

from argocd.world import APPLICATIONS, World, until
from labkit import app, argocd, eso, vault
from labkit.kube import Object
from labkit.things import TRACKING

SHOP_SECRET = "shop/my-db-credentials.yaml"
DEFAULTS = """\
        conversionStrategy: Default
        decodingStrategy: None
        metadataPolicy: None
"""


def test_a_defaulted_field_is_out_of_sync_for_ever(world: World) -> None:
    """Made: an apply by the server, and defaults left out of a list in Git.  Seen: the API
    server fills them in, Argo CD calls them a difference, and syncs again and again.  Mended:
    written out.

    With an apply by the client, which is Argo CD's default, the same file is in sync: it
    compares three ways then, and what it did not write itself is nobody's difference.
    """

    def synced_at(revision: str) -> str:
        """When the last sync to that commit began, "" while there was none."""
        operation = world.operation("shop")
        is_it = (operation.get("syncResult") or {}).get("revision") == revision
        return str(operation["startedAt"]) if is_it and operation.get("finishedAt") else ""

    with world.keeps_serving():
        world.replace(SHOP_SECRET, DEFAULTS, "")
        world.wait_at("shop", world.push("Without what is the default anyhow"))
        wave = '    argocd.argoproj.io/sync-wave: "-1"\n'
        by_server = "    argocd.argoproj.io/sync-options: ServerSideApply=true\n"
        world.replace(SHOP_SECRET, wave, wave + by_server)
        made = world.push("Applied by the server")
        until(lambda: synced_at(made), "synced once")
        first = synced_at(made)
        seen = world.wait("shop", lambda seen: seen.sync == "OutOfSync", "OutOfSync all the same")
        assert (seen.revision, seen.health) == (made, "Healthy")
        code, said = world.run("argocd", "app", "diff", "shop")
        assert code == 1
        assert "conversionStrategy: Default" in said
        assert "ExternalSecret demo/my-db-credentials" in said
        until(lambda: synced_at(made) not in ("", first), "synced again, to the same commit")
        world.must("git", "revert", "--no-edit", "HEAD~..HEAD")
        world.must("git", "revert", "--no-edit", "HEAD~2")
        world.must("git", "push", "--quiet")
        world.wait_at("shop", world.head)


def external_secret(name: str, policy: str) -> str:
    """An ExternalSecret without a template: ESO copies its labels to the Secret."""
    return f"""
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {{name: {name}, namespace: demo}}
spec:
  refreshInterval: 1h
  secretStoreRef: {{kind: ClusterSecretStore, name: vault-backend}}
  target: {{name: {name}, creationPolicy: {policy}}}
  data:
    - secretKey: username
      remoteRef:
        key: mysql_credentials
        property: username
{DEFAULTS}"""


def test_label_tracking_prunes_a_secret_that_nobody_owns(world: World) -> None:
    """Made: Argo CD knows its own by a label, and ESO copies an ExternalSecret's labels to its
    Secret.  Seen: the Secret is taken for the Application's own, is not in Git, and is pruned.
    One that its ExternalSecret owns is left alone even then.  Mended: tracked by annotation.
    """
    key = "application.resourceTrackingMethod"

    def track_by(method: str) -> None:
        world.kube.patch("v1", "ConfigMap", "argocd-cm", {"data": {key: method}}, argocd.NAMESPACE)

    def secret(name: str) -> Object | None:
        return world.kube.get("v1", "Secret", name, app.NAMESPACE)

    def is_labelled(name: str) -> bool:
        labels = ((secret(name) or {}).get("metadata") or {}).get("labels") or {}
        return labels.get("app.kubernetes.io/instance") == "shop"

    def is_annotated() -> bool:
        deployments = world.kube.list("apps/v1", "Deployment", eso.NAMESPACE)
        return all(TRACKING in each["metadata"].get("annotations", {}) for each in deployments)

    def pruned() -> set[str]:
        return {
            each["name"]
            for each in world.results("shop")
            if each["kind"] == "Secret" and each["status"] == "Pruned"
        }

    def is_pruned(name: str) -> bool:
        argocd.refresh(world.kube, "shop", hard=True)  # it looks once a minute by itself
        return name in pruned()

    world.write("shop/owned.yaml", external_secret("owned", "Owner"))
    world.write("shop/orphan.yaml", external_secret("orphan", "Orphan"))
    world.wait_at("shop", world.push("Two secrets more"))
    until(lambda: secret("owned") and secret("orphan"), "ESO has made them")
    assert not is_labelled("orphan")
    owned = (secret("owned") or {})["metadata"]["uid"]
    try:
        with world.keeps_serving():
            track_by("label")
            until(lambda: is_pruned("orphan"), "the Secret is pruned")
            until(lambda: is_labelled("owned"), "ESO has copied the label")
            argocd.refresh(world.kube, "shop", hard=True)
            world.wait("shop", lambda seen: seen.health == "Healthy")
            assert pruned() <= {"orphan"}
            assert (secret("owned") or {})["metadata"]["uid"] == owned
    finally:
        track_by("annotation")
        # What has a label of the right name counts as tracked, and so would stay without the
        # annotation until somebody asks for a sync.
        for name in APPLICATIONS:
            sync = {"operation": {"sync": {"syncStrategy": {"hook": {}}}}}
            world.kube.patch(argocd.API, "Application", name, sync, argocd.NAMESPACE)
    until(is_annotated, "the annotations are back")
    world.wait_green()
    # ESO follows what it owns: it would make this one again at its refreshInterval.
    eso.force_sync(world.kube, "orphan", app.NAMESPACE)
    until(lambda: secret("orphan"), "ESO has made it again")
    assert (secret("owned") or {})["metadata"]["uid"] == owned
    for name in ("owned", "orphan"):
        (world.clone / "shop" / f"{name}.yaml").unlink()
    world.wait_at("shop", world.push("No secrets more"))
    world.kube.delete("v1", "Secret", "orphan", app.NAMESPACE)  # nobody's


def test_a_kind_before_its_crd_is_named(world: World) -> None:
    """Made: one of ESO's generators, of a kind that is not served yet.  Seen: no sync, and
    what is missing is named.  Mended: the CRD comes, and then whoever needs it.

    After three attempts Argo CD waits for another commit, or for somebody to ask.
    """
    crd = "passwords.generators.external-secrets.io"
    kind = "apiextensions.k8s.io/v1", "CustomResourceDefinition"
    # Else Argo CD would put it back within the minute.
    world.replace("apps/external-secrets-crds.yaml", "      selfHeal: true\n", "")
    world.wait_at("platform", world.push("CRDs are somebody else's"))
    world.kube.delete(*kind, crd)
    until(lambda: world.kube.get(*kind, crd) is None, "the CRD is gone")
    with world.keeps_serving():
        world.write(
            "shop/password.yaml",
            "apiVersion: generators.external-secrets.io/v1alpha1\nkind: Password\n"
            "metadata: {name: new, namespace: demo}\n"
            "spec: {length: 24, allowRepeat: true, noUpper: false}\n",
        )
        made = world.push("A generator")
        failed = world.wait(
            "shop", lambda seen: "Password" in seen.message, "refused for want of a CRD"
        )
        assert "generators.external-secrets.io" in failed.message
        assert "not found" in failed.message
        assert failed.sync == "OutOfSync"
        assert failed.revision == made
        world.must("argocd", "app", "get", "--hard-refresh", "external-secrets-crds")
        world.must("argocd", "app", "sync", "external-secrets-crds")
        world.wait_green(("external-secrets-crds",))
        world.run("argocd", "app", "terminate-op", "shop")  # it may be waiting to try again
        until(
            lambda: world.run("argocd", "app", "sync", "shop")[0] == 0,
            "the next sync finds the kind",
        )
        world.wait_at("shop", made)
    assert world.kube.get("generators.external-secrets.io/v1alpha1", "Password", "new", "demo")


def test_a_denied_read_degrades_the_application_and_the_page_stays(world: World) -> None:
    """Made: Vault's policy allows nothing.  Seen: in sync with Git, and Degraded, with the
    ExternalSecret's own words.  Mended: the policy is back."""
    client = world.lab.vault
    with world.keeps_serving():
        client.sys.create_or_update_policy(vault.POLICY, "# nothing\n")
        eso.force_sync(world.kube, app.EXTERNAL_SECRET, app.NAMESPACE)
        seen = world.wait("shop", lambda seen: seen.health == "Degraded", "Degraded")
        assert seen.sync == "Synced"
        assert seen.message.startswith("ExternalSecret my-db-credentials: ")
        assert world.wait("platform", lambda seen: not seen.is_green)
        client.sys.create_or_update_policy(vault.POLICY, vault.POLICY_TEXT)
        eso.force_sync(world.kube, app.EXTERNAL_SECRET, app.NAMESPACE)
        world.wait_green()
    password = (vault.read(client) or {})["password"]
    found = world.kube.get("v1", "Secret", app.SECRET, app.NAMESPACE)
    assert found
    assert password in base64.b64decode(found["data"]["credentials"]).decode()
