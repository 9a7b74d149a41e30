"""Steps 3 to 9 in words: how ESO fetched the secret from Vault and wrote it down.

One function a step (see ``steps``).  What was refused is told with the words of whoever
refused it, and is not proven.
"""

from __future__ import annotations

from functools import partial

from labkit.evidence.facts import Facts
from labkit.evidence.passage import Passage
from labkit.evidence.reasons import (
    API_LOG,
    NOT_REACHED,
    VAULT_LOG,
    age,
    no_line,
    no_vault,
    refusal,
    words,
)
from labkit.evidence.story import Step


def reaches_eso(facts: Facts, passage: Passage) -> Step:
    step = partial(Step, 3, "The ExternalSecret reaches ESO", whom="the Kubernetes API")
    begin = passage.begin
    if begin is None:
        return step(
            who="ESO",
            missing=facts.silence("api") or f"{facts.complaint}; {no_line('attempt of ESO')}",
        )
    why = (
        f"right after {passage.cause} by {passage.cause.user}"
        if passage.cause
        else "with no change of it right before"
    )
    watch = "; it watches externalsecrets" if passage.watch else ""
    return step(
        at=begin.asked,
        who=f"ESO as {begin.user}",
        witness=API_LOG,
        proof=f"{begin}, {why}{watch}",
    )


def resolves_store(facts: Facts, passage: Passage) -> Step:
    store, token = facts.store, passage.token
    step = partial(Step, 4, "ESO resolves the store")
    whom = f"the Kubernetes API, for a token of {store.account or 'a ServiceAccount'}"
    if token is None:
        missing = (
            facts.silence("api")
            or (not store.name and facts.complaint)
            or (not store.account and f"{store.kind} {store.name} names no ServiceAccount")
            or no_line(f"request for a token of {store.account}, which {store.name} names")
        )
        return step(who="ESO", whom=whom, missing=missing)
    return step(
        at=token.asked,
        who=f"ESO as {token.user}",
        whom=whom,
        witness=API_LOG,
        proof=f"{token}, the ServiceAccount that {store.kind} {store.name} names"
        + age(passage, token.asked),
        missing="" if token.ok else f"the API server refused with {token.code}",
    )


def logs_in(facts: Facts, passage: Passage) -> Step:
    step = partial(Step, 5, "ESO logs in to Vault", whom=f"Vault, {facts.store.login}")
    login, lease = passage.login, passage.lease
    if login is None:
        return step(who="ESO", missing=no_vault(facts, passage, "login"))
    known = bool(lease and lease.account)
    return step(
        at=login.at,
        who=f"ESO with the JWT of {lease.account}"
        if lease and known
        else "ESO (Vault names nobody it refuses; ESO had its token right before)",
        witness=VAULT_LOG,
        proof=f"request {login.operation} {login.path}"
        + (f", role {lease.role}" if lease and lease.role else "")
        + age(passage, login.at),
    )


def is_trusted(facts: Facts, passage: Passage) -> Step:
    step = partial(
        Step,
        6,
        "Vault trusts it through the Kubernetes API",
        whom="the Kubernetes API, TokenReview",
    )
    review, lease = passage.review, passage.lease
    who = f"Vault as {review.user}" if review else "Vault"
    refused = refusal(facts, lease)
    if review is None:
        missing = refused or facts.silence("api") or no_vault(facts, passage, "login")
        if not refused and lease and facts.calls is not None:
            missing = no_line("TokenReview between the login and its answer")
        return step(who=who, missing=missing)
    granted = (
        f"; Vault's answer: a token for {lease.ttl} s with {', '.join(lease.policies)}"
        if lease and not refused
        else ""
    )
    return step(
        at=review.asked,
        who=who,
        witness=API_LOG,
        proof=f"{review}{granted}{age(passage, review.asked)}",
        missing=refused
        or (not review.ok and f"the API server refused with {review.code}")
        or (lease is None and no_vault(facts, passage, "login"))
        or "",
    )


def vault_answers(facts: Facts, passage: Passage) -> Step:
    read = passage.read
    path = read.path if read else min(facts.paths, default=facts.store.mount)
    step = partial(Step, 7, "Vault answers", whom=f"Vault, {path}")
    if read is None:
        return step(who="ESO", missing=no_vault(facts, passage, "read"))
    version = f", version {read.version}" if read.version is not None else ""
    return step(
        at=read.at,
        who=f"ESO as {read.identity}",
        witness=VAULT_LOG,
        proof=f"response to {read.operation} {read.path}{version}",
        missing=f"Vault refused: {words(read.error)}" if read.error else "",
    )


def writes_secret(facts: Facts, passage: Passage) -> Step:
    write = passage.write
    step = partial(Step, 8, "ESO writes the templated Secret", whom="the Kubernetes API")
    if write is None:
        return step(who="ESO", missing=_after_vault(facts, passage))
    target = (((facts.external or {}).get("spec") or {}).get("target")) or {}
    keys = sorted(((target.get("template") or {}).get("data")) or {})
    made = f", from the template of {', '.join(keys)}" if keys else ", without a template"
    return step(at=write.asked, who=f"ESO as {write.user}", witness=API_LOG, proof=f"{write}{made}")


def is_over(facts: Facts, passage: Passage) -> Step:
    done = passage.done
    step = partial(Step, 9, "ESO's job is over", whom="the Kubernetes API")
    if done is None:
        missing = (
            f"ESO is not done: {facts.complaint}"
            if passage.failed
            else facts.silence("api") or f"{no_line('status that ESO wrote')}; {facts.complaint}"
        )
        return step(who="ESO", missing=missing)
    returned = "; then it gave its token back to Vault (revoke-self)" if passage.returned else ""
    return step(
        at=done.asked,
        who=f"ESO as {done.user}",
        witness=API_LOG,
        proof=f"{done}{returned}",
    )


def _after_vault(facts: Facts, passage: Passage) -> str:
    if passage.failed:
        return f"{NOT_REACHED}: {facts.complaint}"
    return facts.silence("api") or no_line("write of it by ESO")
