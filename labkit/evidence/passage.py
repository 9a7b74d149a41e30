"""Which lines of the logs belong to one passage of the secret.  Pure: logs in, lines out.

1. The pivot is ESO's last successful write of the Secret (without the API server's log:
   the node's last rename, else the app's last reload).  A refresh that finds nothing new
   writes nothing, so the passage told is the last that went all the way.
2. If the ExternalSecret is not Ready and ESO tried again since (or nothing ever got
   through), the last such attempt is told instead: it shows where the way ends now.
3. ESO begins each attempt by getting the Secret; that call opens the passage.
4. The read in Vault leads to its login by the token's accessor, whatever the login's age;
   the login's request and answer enclose the TokenReview.
5. Behind the pivot: the first rename, the first reload since, the first page's
   acknowledgement of that very version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from labkit import eso
from labkit.evidence.facts import Facts
from labkit.evidence.witnesses import ApiCall, Rename
from labkit.vault import AuditEntry

ESO = f"system:serviceaccount:{eso.NAMESPACE}:"
_FOREVER = float("inf")
_WRITES = {"create", "update", "patch"}
_T = TypeVar("_T")


@dataclass(frozen=True)
class Passage:
    """The lines found; None for what no log shows.

    ``failed`` says that this is an attempt which did not reach the Secret.  ``login`` is
    Vault's request line, ``lease`` its answer; ``cause`` is the change of the
    ExternalSecret right before, None when ESO came by itself.
    """

    failed: bool
    watch: ApiCall | None = None
    cause: ApiCall | None = None
    begin: ApiCall | None = None
    token: ApiCall | None = None
    login: AuditEntry | None = None
    review: ApiCall | None = None
    lease: AuditEntry | None = None
    read: AuditEntry | None = None
    write: ApiCall | None = None
    done: ApiCall | None = None
    returned: AuditEntry | None = None
    fetched: ApiCall | None = None
    rename: Rename | None = None
    reload: dict[str, Any] | None = None
    shown: dict[str, Any] | None = None


def find(facts: Facts) -> Passage:
    """The latest passage (see the numbers above); none of an ExternalSecret that is gone."""
    if facts.external is None:
        return Passage(failed=True)
    calls, entries = facts.calls or (), facts.vault or ()
    where, secret = facts.subject.namespace, facts.secret
    mine = [call for call in calls if call.user.startswith(ESO)]
    write = _last(mine, lambda call: _writes(call, "secrets", where, secret))  # 1
    pivot = write.asked if write else _far_end(facts)
    attempts = [
        call for call in mine if call.verb == "get" and call.is_about("secrets", where, secret)
    ]
    since_then = [call for call in attempts if call.asked > pivot or pivot == _FOREVER]
    retries = [] if facts.is_ready else since_then
    failed = bool(retries)
    begin, end = _last(attempts, lambda call: call.asked <= pivot), _FOREVER
    if failed:  # 2
        write = None
        begin, end = _failed_attempt(facts, retries, mine)
    since = begin.asked if begin else 0.0  # 3
    read = _read(facts, since, end if failed else min(end, pivot), failed=failed)
    token_until = read.at if read else end
    token, login, lease = _login(facts, mine, read, since, token_until)
    changes = [
        call
        for call in calls
        if not call.user.startswith(ESO)
        and _writes(call, "externalsecrets", where, facts.subject.external_secret)
        and since - 2.0 <= call.asked <= since
    ]
    rename = None if failed else _first(facts.renames or (), lambda swap: swap.at >= pivot)
    loaded_since = rename.at if rename else pivot
    reload = (
        None
        if failed
        else _first(
            facts.events or (),
            lambda event: event["event"] in {"loaded", "reloaded"} and event["at"] >= loaded_since,
        )
    )
    return Passage(
        failed=failed,
        watch=_last(
            mine,
            lambda call: (
                call.verb == "watch"
                and call.resource == "externalsecrets"
                and call.answered <= since
            ),
        ),
        cause=changes[-1] if changes else None,
        begin=begin,
        token=token,
        login=login,
        review=_last(
            calls,
            lambda call: (
                call.resource == "tokenreviews"
                and login is not None
                and lease is not None
                and login.at <= call.asked <= lease.at
            ),
        ),
        lease=lease,
        read=read,
        write=write,
        done=None
        if write is None
        else _first(
            mine,
            lambda call: (
                _writes(call, "externalsecrets/status", where, facts.subject.external_secret)
                and call.asked > write.asked
            ),
        ),
        returned=_first(
            entries,
            lambda entry: (
                read is not None
                and entry.path == "auth/token/revoke-self"
                and entry.accessor == read.accessor
                and entry.at > read.at
            ),
        ),
        fetched=None
        if rename is None
        else _last(
            calls,
            lambda call: (
                call.user.startswith("system:node:")
                and call.resource == "secrets"
                and call.namespace == where
                and call.name == secret
                and call.ok
                and call.asked <= rename.at
            ),
        ),
        rename=rename,
        reload=reload,
        shown=None
        if reload is None
        else _first(
            facts.events or (),
            lambda event: (
                event["event"] == "ack"
                and event["version"] == reload["version"]
                and event["at"] >= reload["at"]
            ),
        ),
    )


def _far_end(facts: Facts) -> float:
    """The pivot where no audit log shows the write (1)."""
    if facts.renames:
        return facts.renames[-1].at
    loaded = _last(facts.events or (), lambda event: event["event"] in {"loaded", "reloaded"})
    return float(loaded["at"]) if loaded else _FOREVER


def _failed_attempt(
    facts: Facts, attempts: list[ApiCall], mine: list[ApiCall]
) -> tuple[ApiCall, float]:
    """The last attempt and its end; the one before while the last is still under way."""
    outcomes = [
        call.asked for call in mine if call.resource == "serviceaccounts/token" and not call.ok
    ]
    outcomes += [
        entry.at
        for entry in facts.vault or ()
        if entry.type == "response"
        and (
            entry.path in facts.paths
            or (entry.path == facts.store.login and (entry.error or not entry.accessor))
        )
    ]
    ends = [*(call.asked for call in attempts[1:]), _FOREVER]
    windows = list(zip(attempts, ends, strict=True))
    for begin, end in windows[:-3:-1]:
        if any(begin.asked <= outcome < end for outcome in outcomes):
            return begin, end
    return windows[-1]


def _read(facts: Facts, since: float, until: float, *, failed: bool) -> AuditEntry | None:
    """Vault's answer about this secret, to the ServiceAccount that the store names."""
    return _last(
        facts.vault or (),
        lambda entry: (
            entry.type == "response"
            and entry.operation == "read"
            and entry.path in facts.paths
            and (not facts.store.account or entry.account == facts.store.account)
            and since <= entry.at < until
            and (failed or not entry.error)
        ),
    )


def _login(
    facts: Facts, mine: list[ApiCall], read: AuditEntry | None, since: float, until: float
) -> tuple[ApiCall | None, AuditEntry | None, AuditEntry | None]:
    """The token that ESO asked Kubernetes for, its login with it, Vault's answer (4)."""
    entries = facts.vault or ()
    namespace, _, name = facts.store.account.partition(":")
    tokens = [call for call in mine if call.is_about("serviceaccounts/token", namespace, name)]
    lease: AuditEntry | None
    login: AuditEntry | None
    if read:
        lease = _last(
            entries,
            lambda entry: (
                entry.type == "response"
                and entry.path == facts.store.login
                and entry.accessor == read.accessor
                and entry.at <= read.at
            ),
        )
        login = _pair(entries, "request", lease)
        before = login.at if login else read.at
        return _last(tokens, lambda call: call.asked <= before), login, lease
    lease = login = None
    token = _first(tokens, lambda call: since <= call.asked < until)
    if token and token.ok:  # refused, then: Vault names nobody whom it refuses
        login = _first(
            entries,
            lambda entry: (
                entry.type == "request"
                and entry.path == facts.store.login
                and token.asked <= entry.at < until
            ),
        )
        lease = _pair(entries, "response", login)
    return token, login, lease


def _pair(entries: Iterable[AuditEntry], kind: str, other: AuditEntry | None) -> AuditEntry | None:
    """The request of a response, or the response to a request."""
    return other and _first(entries, lambda entry: entry.type == kind and entry.id == other.id)


def _writes(call: ApiCall, resource: str, namespace: str, name: str) -> bool:
    return call.ok and call.verb in _WRITES and call.is_about(resource, namespace, name)


def _first(found: Iterable[_T], wanted: Callable[[_T], bool]) -> _T | None:
    return next((one for one in found if wanted(one)), None)


def _last(found: Iterable[_T], wanted: Callable[[_T], bool]) -> _T | None:
    last = None
    for one in found:
        if wanted(one):
            last = one
    return last
