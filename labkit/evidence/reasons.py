"""Why a step has no line to show, and how old a line is: the words that steps share.

The logs are called the same everywhere, so that a learner can look for them.
"""

from __future__ import annotations

import re

from labkit.evidence.facts import Facts
from labkit.evidence.passage import Passage
from labkit.vault import AuditEntry

API_LOG = "API server's audit log"
VAULT_LOG = "Vault's audit log"
NODE_LOG = "the node's journal"
APP_LOG = "the app's own events"
NOT_REACHED = "the passage ended before"


def no_line(what: str) -> str:
    """The API server's log is there; the line is not (or no longer)."""
    return f"the API server's audit log shows no {what} (or no longer)"


def no_vault(facts: Facts, passage: Passage, what: str) -> str:
    """Why Vault's log shows no login or no read."""
    if silence := facts.silence("vault"):
        return silence
    if passage.token and not passage.token.ok:
        return f"{NOT_REACHED}: ESO got no token to show"
    if refusal(facts, passage.lease):
        return f"{NOT_REACHED}: Vault refused the login"
    return f"no {what} by ESO for this passage is still in Vault's audit log; {facts.complaint}"


def refusal(facts: Facts, lease: AuditEntry | None) -> str:
    """What Vault said when it gave no token in answer to a login; "" when it gave one."""
    if lease is None or (lease.accessor and not lease.error):
        return ""
    if lease.error:
        return f"Vault refused the login: {words(lease.error)}"
    # Told to ESO alone: in the audit log these words are an HMAC.
    said = f": {words(facts.words)} (from ESO's event)" if facts.words else ""
    return f"Vault refused the login{said}"


def age(passage: Passage, at: float) -> str:
    """How long before this passage, for a token that was kept from an earlier one."""
    before = passage.begin.asked - at if passage.begin else 0.0
    return f" ({before:.0f} s before this passage: the token was kept)" if before > 0.5 else ""


def words(error: str) -> str:
    """Vault's words without the count that it puts before them."""
    return re.sub(r"^\d+ errors? occurred: \* ", "", " ".join(error.split()))
