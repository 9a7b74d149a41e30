"""Lesson 07's first exercise: from an empty repository to the secret on the page, by one commit.

Taking it back leaves running what was deployed: the repository is emptied and the root
Application removed, so everything can be deployed again in a few seconds.
"""

from __future__ import annotations

from labkit import app, argocd
from labkit.argocd import WAVE, Application
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course.lesson_07_repository import (
    OWN_URL,
    ROOT,
    SHOP,
    SHOP_FILE,
    Repository,
    application,
    behind,
    cloned,
    page_follows,
)
from labkit.course.model import Exercise, Fault
from labkit.paths import manifest

_FOLDERS = ("apps", "shop", "store", "vault")
_STORE_FILE = "apps/store.yaml"
SHOP_YAML = (
    manifest("07-gitops/apps/shop.yaml")
    .read_text()
    .replace("selfHeal: true", "selfHeal: false")
    .partition("\n")[2]
)
"""The shop's Application as the lesson begins with it: nothing is put back by itself yet."""


def committed(message: str) -> str:
    """The lines that commit whatever changed, if anything did, and push."""
    return (
        "git add --all\n"
        f'git diff --cached --quiet || git commit --quiet --message "{message}"\n'
        "git push --quiet\n"
    )


@expects("main has the platform")
def is_pushed(scene: Scene) -> Finding:
    expected = f"main on the server has the folders {', '.join(_FOLDERS)}"
    with cloned(scene) as repository:
        absent = [name for name in _FOLDERS if not (repository.folder / name).is_dir()]
        if not absent:
            return met(expected)
        is_empty = len(absent) == len(_FOLDERS)
    return not_yet(
        expected,
        "main is empty" if is_empty else f"it has no {' and no '.join(absent)}",
        next="Copy $MANIFESTS/07-gitops into your clone, commit, and `git push`.",
        hint="Argo CD reads the server's repository, not your clone: nothing happens before "
        "`git push`. See with `git -C $PLATFORM status`."
        if is_empty
        else "",
        blocks=True,
    )


@expects("Argo CD was told of it, once")
def root_is_applied(scene: Scene) -> Finding:
    expected = f"the root Application {ROOT} reads the folder apps of {OWN_URL}"
    found = application(scene, ROOT)
    source = ((found or {}).get("spec") or {}).get("source") or {}
    if (source.get("repoURL"), source.get("path")) == (OWN_URL, "apps"):
        return met(expected)
    return not_yet(
        expected,
        f"Argo CD has no Application {ROOT}" if found is None else f"it reads {source.get('path')}",
        next='Apply it: `kubectl apply -f "$MANIFESTS"/argocd-root/platform.yaml`.',
        hint="Something must tell Argo CD where to begin. That is the one file applied by hand: "
        '`kubectl apply -f "$MANIFESTS"/argocd-root/platform.yaml`.',
        blocks=True,
    )


def _wave(repository: Repository, file: str) -> int:
    found = (repository.yaml(file).get("metadata") or {}).get("annotations") or {}
    try:
        return int(found.get(WAVE, "0"))
    except ValueError:
        return 0


@expects("the shop waits for its turn")
def shop_waits(scene: Scene) -> Finding:
    expected = "the shop's sync wave comes after the store's"
    with cloned(scene) as repository:
        shop, store = _wave(repository, SHOP_FILE), _wave(repository, _STORE_FILE)
    if shop > store:
        return met(expected)
    return not_yet(
        expected,
        f"the shop's is {shop}, the store's {store}",
        next=f"Set {WAVE} in {SHOP_FILE} to a higher number than in {_STORE_FILE}, and push.",
        hint="Lower waves come first. In a new cluster an ExternalSecret of an early wave meets no "
        "such kind, then no webhook, then no store: Argo CD tries, fails and tries again.",
    )


def _told(found: list[Application]) -> tuple[str, bool]:
    """What is told of the first Application that is not as it should be; is its path wrong?"""
    first = next((one for one in found if "app path does not exist" in one.message), found[0])
    if "app path does not exist" in first.message:
        return f"{first.name}: its path is not in the repository", True
    return f"{first.name} is {first.sync}, {first.health}", False


@expects("everything is green")
def all_green(scene: Scene) -> Finding:
    expected = "every Application is Synced and Healthy at the newest commit"
    with cloned(scene) as repository:
        names = sorted({ROOT, *repository.applications})
        found = behind(scene, repository, names)
        late = repository.yaml(SHOP_FILE).get("spec") or {}
    if not found:
        return met(expected)
    seen, has_no_path = _told(found)
    is_elsewhere = (late.get("source") or {}).get("repoURL") != OWN_URL
    return not_yet(
        expected,
        seen,
        next="See `argocd app list`, then `argocd app get NAME` of what is not green. A first "
        "bring-up takes about a minute.",
        hint=f"An Application's path is a folder of the repository, seen from its top. In "
        f"{SHOP_FILE}, which folder holds the shop's Deployment?"
        if has_no_path
        else f"{SHOP_FILE}: is its repoURL {OWN_URL}?"
        if is_elsewhere
        else "",
        settling=not has_no_path,
    )


@expects("the page shows the secret")
def page_shows_it(scene: Scene) -> Finding:
    return page_follows(
        scene,
        "the page shows the password that is in Vault",
        next=f"See `kubectl -n {app.NAMESPACE} get pods,endpointslices`.",
        hint="Green says that the cluster has what Git says, and that each object is well. A "
        f"Service whose selector matches no pod is well, too: compare it with the pods' labels "
        f"(`kubectl -n {app.NAMESPACE} get endpointslices`).",
    )


_APPLY_ROOT = 'kubectl apply -f "$MANIFESTS"/argocd-root/platform.yaml\n'
_WAIT = f"""\
for name in external-secrets-crds external-secrets vault store shop {ROOT}; do
    kubectl -n {argocd.NAMESPACE} wait application/$name --for=create --timeout=120s > /dev/null
    kubectl -n {argocd.NAMESPACE} wait application/$name --timeout=120s \\
        --for=jsonpath='{{.status.health.status}}'=Healthy
done
"""
_CLONE = f'[ -d "$PLATFORM" ] || git clone --quiet {OWN_URL} "$PLATFORM"\n'
_NO_ROOT = f"""\
if kubectl -n {argocd.NAMESPACE} get application {ROOT} > /dev/null 2>&1; then
    # Without its finalizer: what it has deployed stays.
    kubectl -n {argocd.NAMESPACE} patch application {ROOT} --type=merge \\
        -p '{{"metadata": {{"finalizers": null}}}}'
    kubectl -n {argocd.NAMESPACE} delete application {ROOT}
fi
"""
_EMPTY = f"""\
rm -rf "$PLATFORM"
git clone --quiet {OWN_URL} "$PLATFORM"
cd "$PLATFORM"
git push --quiet --force origin \\
    "$(git commit-tree "$(git mktree < /dev/null)" -m 'Begin again')":refs/heads/main
cd /
rm -rf "$PLATFORM"
git clone --quiet {OWN_URL} "$PLATFORM"
"""


def arrived(*names: str) -> str:
    """The lines that wait until these Applications are what the clone's newest commit says."""
    return f"""\
for name in {" ".join(names)}; do
    kubectl -n {argocd.NAMESPACE} wait application/$name --timeout=100s \\
        --for=jsonpath='{{.status.sync.revision}}'="$(git rev-parse HEAD)"
    kubectl -n {argocd.NAMESPACE} wait application/$name --timeout=60s \\
        --for=jsonpath='{{.status.sync.status}}'=Synced
done
"""


def edited(edit: str, message: str, file: str = SHOP_FILE) -> str:
    """The lines that change a file of the clone with sed, commit and push."""
    return f"cd \"$PLATFORM\"\nsed -i '{edit}' {file}\n{committed(message)}"


BRING_UP = Exercise(
    name="bring-up",
    title="Bring it up",
    script=f"""\
# 1. The platform's files, in your clone of the repository.
{_CLONE}cd "$PLATFORM"
cp -R "$MANIFESTS"/07-gitops/. .
# 2. The shop's Application: from which repository, which folder, and after whom?
cat > {SHOP_FILE} <<'YAML'
{SHOP_YAML}YAML
# 3. One commit, pushed.
{committed("The whole platform")}\
# 4. The one thing that is applied by hand.
{_APPLY_ROOT}\
# 5. From here on you only watch: this takes a minute or so.
{_WAIT}""",
    undo=_NO_ROOT + _EMPTY,
    blanks=(
        f'{WAVE}: "⟦3⟧"',
        f"repoURL: ⟦{OWN_URL}⟧",
        "path: ⟦shop⟧",
    ),
    expectations=(is_pushed, root_is_applied, shop_waits, all_green, page_shows_it),
    hints=(
        "The other files of apps/ show how it is done: `cat $PLATFORM/apps/store.yaml`.",
        "The wave is a number higher than the store's 2, the repository is the one that you "
        "cloned, and the path is the folder shop.",
    ),
    faults=(
        Fault("it was not pushed", _EMPTY, is_pushed, "git push"),
        Fault("the root was not applied", _NO_ROOT, root_is_applied, "where to begin"),
        Fault(
            "the shop comes with the operator",
            edited(f's|{WAVE}: .*|{WAVE}: "1"|', "Sooner"),
            shop_waits,
            "lower waves come first",
        ),
        Fault(
            "a folder that is not there",
            edited("s/path: shop/path: shopp/", "Another folder")
            + f"""\
kubectl -n {argocd.NAMESPACE} wait application/{SHOP} --timeout=60s \\
    --for=jsonpath='{{.spec.source.path}}'=shopp
kubectl -n {argocd.NAMESPACE} wait application/{SHOP} --timeout=60s \\
    --for=jsonpath='{{.status.sync.status}}'=Unknown
""",
            all_green,
            "path is a folder",
        ),
        Fault(
            "a Service that selects nobody",
            edited(
                "s/^    app: gitops-secrets-app$/    app: gitops-secret-app/",
                "Another label",
                "shop/shop.yaml",
            )
            + f"""\
for try in $(seq 100); do
    found=$(kubectl -n {app.NAMESPACE} get endpointslices \\
        -o jsonpath='{{.items[*].endpoints[*].addresses}}')
    [ -z "$found" ] && break
    sleep 0.1
done
""",
            page_shows_it,
            "selector",
        ),
    ),
)
