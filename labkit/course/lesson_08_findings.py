"""Lesson 08's second exercise: who got hold of a password, told from two logs.

The learner writes what they found into a ConfigMap; the checkpoint reads the same logs and
compares.  Nothing here knows the answer: it is found by the password's version and by the
accessor and the time of the login that came before.
"""

from __future__ import annotations

from dataclasses import dataclass

from labkit import vault
from labkit.checks import Finding, Scene, expects, met, not_yet
from labkit.course.lesson_08_team import JOBS_ROLE, READER, ROLE, key
from labkit.course.model import Exercise, Fault
from labkit.errors import LabError
from labkit.evidence.witnesses import api_calls
from labkit.vault import MOUNT, AuditEntry

_LOGIN = "auth/kubernetes/login"
_WANTED = ("reader", "role", "requester")
_SERVICE_ACCOUNT = "system:serviceaccount:"
LEAKED = 1  # the version whose password is about


@dataclass(frozen=True)
class Trace:
    """What the logs say: ServiceAccounts as ``namespace:name``, the role by its name.

    ``requester`` is None where the API server's log is somebody else's (a real cluster): then
    nothing that can be read here says who it was.
    ``innocent`` are those of the team that read another version of the secret.
    """

    reader: str
    role: str
    requester: str | None
    innocent: frozenset[str]


def trace(scene: Scene) -> Trace:
    """Follow the leaked version back.  Raises LabError when the logs do not reach so far."""
    team = scene["team"]
    entries = tuple(vault.audit(scene.kube))
    reads = [
        entry
        for entry in entries
        if entry.type == "response"
        and entry.operation == "read"
        and entry.path == f"{MOUNT}/data/{key(team)}"
        and entry.account not in {"", f"{team}:{READER}"}
    ]
    last = next((entry for entry in reversed(reads) if entry.version == LEAKED), None)
    login = last and next((entry for entry in entries if _gave(entry, last)), None)
    calls = api_calls(scene.lab.paths.api_audit) or ()
    requests = [
        call
        for call in calls
        if login
        and call.is_about("serviceaccounts/token", *login.account.split(":"))
        and call.ok
        and call.asked <= login.at
    ]
    is_unread = scene.lab.is_abroad
    if not last or not login or not (requests or is_unread):
        raise LabError(
            "The logs do not reach back to the read any more",
            todo="lesson.restart() makes it happen again.",
        )
    return Trace(
        reader=last.account,
        role=last.role,
        requester=None if is_unread else requests[-1].user.removeprefix(_SERVICE_ACCOUNT),
        innocent=frozenset(entry.account for entry in reads if entry.version != LEAKED),
    )


def _gave(entry: AuditEntry, read: AuditEntry) -> bool:
    """Whether this is the login that gave the token of ``read``."""
    return (
        entry.type == "response" and entry.path == _LOGIN and entry.accessor == read.accessor != ""
    )


def _report(scene: Scene) -> dict[str, str] | None:
    found = scene.kube.get("v1", "ConfigMap", scene["report"], scene["team"])
    return None if found is None else dict(found.get("data") or {})


def _said(scene: Scene, what: str) -> str:
    return (_report(scene) or {}).get(what, "").strip()


def _is(said: str, account: str) -> bool:
    """Whether somebody means this ServiceAccount, with its namespace or without."""
    plain = said.removeprefix(_SERVICE_ACCOUNT).replace("/", ":")
    return plain in {account, account.partition(":")[2]}


@expects("there is a report")
def is_reported(scene: Scene) -> Finding:
    expected = f"the ConfigMap {scene['report']} says {', '.join(_WANTED)}"
    report = _report(scene)
    absent = [what for what in _WANTED if not (report or {}).get(what, "").strip()]
    if not absent:
        return met(expected)
    return not_yet(
        expected,
        f"{scene['team']} has no such ConfigMap"
        if report is None
        else f"it has no {' and no '.join(absent)}",
        next=f"Make it: `kubectl -n {scene['team']} create configmap {scene['report']} "
        "--from-literal=reader=…`, and so on.",
        blocks=True,
    )


@expects("it names who read the password")
def reader_is_right(scene: Scene) -> Finding:
    expected = "reader is the ServiceAccount, not ESO's, that read the leaked password"
    said, found = _said(scene, "reader"), trace(scene)
    if _is(said, found.reader):
        return met(expected)
    hint = ""
    if _is(said, f"{scene['team']}:{READER}"):
        hint = "That is what ESO is for this team: reading it is its job. Who else got it?"
    elif any(_is(said, account) for account in found.innocent):
        hint = (
            "That one has read the secret, but another version of it. Look for the lines that "
            f"hold the HMAC of version {LEAKED}."
        )
    return not_yet(
        expected,
        f"it says {said}",
        next=f"Compute the HMAC of version {LEAKED} of {MOUNT}/{key(scene['team'])}, as above, "
        "and look for it in Vault's log.",
        hint=hint,
    )


@expects("it names the role that let them in")
def role_is_right(scene: Scene) -> Finding:
    expected = "role is the role of Vault with which they logged in"
    said = _said(scene, "role")
    if said == trace(scene).role:
        return met(expected)
    return not_yet(
        expected,
        f"it says {said}",
        next="The line of the read has it: auth, metadata, role.",
        hint="Vault keeps with every token how it came about: in the line of the read, below "
        "auth and metadata, stands role beside service_account_name.",
    )


@expects("it names who asked for their token")
def requester_is_right(scene: Scene) -> Finding:
    expected = "requester is who had Kubernetes make the JWT for that login"
    said, found = _said(scene, "requester"), trace(scene)
    if found.requester is None:
        return met("a requester is named; this cluster's API server's log, which could prove it, "
                   "is not ours to read")  # fmt: skip
    if _is(said, found.requester):
        return met(expected)
    hint = ""
    if _is(said, ":".join((vault.NAMESPACE, "vault"))):
        hint = (
            "That one only asked whether the JWT was genuine (TokenReview). Before that somebody "
            "had it made: look for serviceaccounts/…/token."
        )
    elif _is(said, found.reader):
        hint = (
            "That is whose token it was. The line about it in the API server's log has two names: "
            "whose token was made, and in user.username who asked for it."
        )
    return not_yet(
        expected,
        f"it says {said}",
        next="The API server's log has a line for each token that it makes: a create of "
        "serviceaccounts/NAME/token.",
        hint=hint,
    )


_ANSWER = f"""\
kubectl -n warehouse create configmap findings \\
    --from-literal=reader=stocktaking \\
    --from-literal=role={JOBS_ROLE} \\
    --from-literal=requester=printer \\
    --dry-run=client -o yaml | kubectl apply -f -
"""


def _says(what: str, answer: str) -> str:
    data = f'{{"data": {{"{what}": "{answer}"}}}}'
    return f"kubectl -n warehouse patch configmap findings -p '{data}'"


WHO = Exercise(
    name="who",
    title="Find out who read it",
    script=f"""\
# 1. By which HMAC does Vault's log know the password that leaked?
hmac=$(bao kv get -mount={MOUNT} -version={LEAKED} -field=password warehouse/stock |
    bao write -field=hash sys/audit-hash/stdout input=-)
# 2. Who got it as an answer, and with which role had they logged in?
kubectl -n vault logs vault-0 | grep "$hmac" | grep '"operation":"read"' |
    grep -oE '"role":"[^"]+","service_account_name":"[^"]+"' | sort -u
# 3. Who had Kubernetes make a token for that ServiceAccount?
labkit logs audit --lines 100000 | grep 'warehouse/serviceaccounts/stocktaking/token' |
    grep -oE '"username":"[^"]+"' | tail -1
# 4. The report.
{_ANSWER}""",
    undo="kubectl -n warehouse delete configmap findings --ignore-not-found\n",
    start="""\
# Your report, as a ConfigMap. Write the three names in, and take the # away:
# kubectl -n warehouse create configmap findings \\
#     --from-literal=reader=… \\
#     --from-literal=role=… \\
#     --from-literal=requester=… \\
#     --dry-run=client -o yaml | kubectl apply -f -""",
    expectations=(is_reported, reader_is_right, role_is_right, requester_is_right),
    hints=(
        "Go backwards: the password's HMAC leads to the read in Vault's log, the read to a "
        "ServiceAccount and a role, and the ServiceAccount to a line in the API server's log.",
        f"reader and role: the line with the HMAC of version {LEAKED}, operation read, that is "
        f"neither yours nor that of {READER}. requester: user.username of the last line with "
        "serviceaccounts/READER/token in it.",
    ),
    faults=(
        Fault(
            "no report",
            "kubectl -n warehouse delete configmap findings",
            is_reported,
            "create configmap",
        ),
        Fault("ESO", _says("reader", READER), reader_is_right, "its job"),
        Fault(
            "who read the next version",
            _says("reader", "warehouse/packing"),
            reader_is_right,
            "another version",
        ),
        Fault("somebody who did not", _says("reader", "default"), reader_is_right, "HMAC"),
        Fault("ESO's role", _says("role", ROLE), role_is_right, "metadata"),
        Fault(
            "who reviewed the token",
            _says("requester", "system:serviceaccount:vault:vault"),
            requester_is_right,
            "TokenReview",
        ),
        Fault(
            "whose token it was",
            _says("requester", "warehouse:stocktaking"),
            requester_is_right,
            "whose token",
        ),
    ),
)
