"""What the comparison says: data only.  What is seen of it is added by a run.

Each sentence is something that a run here shows, or that ``not_run`` names as not shown.
Sources for what is not run: the "Sealed Secrets" README (sealing keys, their renewal and
re-encryption), the Argo CD Vault Plugin's documentation (its cached
token in "Usage", its "Security considerations"), and Argo CD's "High Availability" page on how long
rendered manifests are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from labkit.alternatives.model import Answer, Question, Way

_SIDECAR = (
    "the plugin as a sidecar of repo-server, and what Argo CD then keeps in its cache: that "
    "needs an Argo CD set up for it. Here the plugin itself was run as repo-server runs it, "
    "`generate` on a checkout."
)

_PLAIN = {
    Question.IN_GIT: Answer(
        "The value, in base64. That is a spelling, and hides nothing.",
    ),
    Question.KEY: Answer(
        "There is none. Whoever can read the file has the value.",
        not_run="there is no key to look for.",
    ),
    Question.ROTATION: Answer(
        "A commit, a push, a sync. The old value stays in the history.",
    ),
    Question.LEAKED_REPOSITORY: Answer(
        "Every value it ever held, those that were replaced too.",
    ),
    Question.LEAKED_KEY: Answer(
        "There is no key: the repository is the leak.",
        not_run="there is no key to leak.",
    ),
    Question.SEEN_BY: Answer(
        "Everybody on the way: the author, the Git server, every clone and backup, Argo CD's "
        "repo-server and its cache, the API server.",
        not_run="Argo CD's cache with a Secret in it.",
    ),
    Question.AWAY: Answer(
        "Nothing is asked, so nothing can be away: a clone is enough to make the Secret.",
    ),
}

_SEALED = {
    Question.IN_GIT: Answer(
        "A SealedSecret: each value encrypted for this cluster's controller, and for one name "
        "in one namespace. Names and fields can be read.",
    ),
    Question.KEY: Answer(
        "The private key is a Secret in the controller's namespace. It has to be backed up, "
        "and kept from everybody else. The certificate to seal with is public.",
        not_run="the renewal: every 30 days there is one more key, and the old ones stay.",
    ),
    Question.ROTATION: Answer(
        "Somebody who has the new value seals it, commits and pushes; then a sync. A renewed "
        "sealing key rotates no secret.",
    ),
    Question.LEAKED_REPOSITORY: Answer(
        "Names, fields and how often they change; no value without the private key. A copy can "
        "be kept and opened later, should the key ever leak.",
    ),
    Question.LEAKED_KEY: Answer(
        "Every value that was ever sealed for it, offline and in the whole history. A new "
        "sealing key does not help: the values themselves have to be changed. And whoever takes "
        "over the controller reads every Secret.",
    ),
    Question.SEEN_BY: Answer(
        "Whoever seals it (they hold the plain value), the controller, the API server. Git and "
        "what Argo CD renders hold the sealed one alone.",
        not_run="Argo CD in between: it was given the same file as here, and nothing else.",
    ),
    Question.AWAY: Answer(
        "Secrets that exist stay as they are; what is new or changed waits for the controller. "
        "If its key is lost, nothing in Git can be opened any more.",
    ),
}

_PLUGIN = {
    Question.IN_GIT: Answer(
        "The Secret itself with a placeholder in it, and where in Vault the value is.",
    ),
    Question.KEY: Answer(
        "With repo-server: a token, or a ServiceAccount that may log in to Vault. The plugin "
        "keeps the Vault token of a login in a file.",
        not_run=_SIDECAR,
    ),
    Question.ROTATION: Answer(
        "No commit, but somebody has to render and sync again: Argo CD renders a commit once "
        "and keeps the outcome (24 hours by default), so a new value needs a hard refresh.",
        not_run="the hard refresh in Argo CD; `generate` and apply stood for it.",
    ),
    Question.LEAKED_REPOSITORY: Answer(
        "Paths and field names in Vault, no value.",
    ),
    Question.LEAKED_KEY: Answer(
        "Whatever its policy may read, now and until it ends or is revoked. One plugin serves "
        "every application of a repo-server, so that is usually all of them.",
        not_run="a repo-server with many applications: the role here reads one path.",
    ),
    Question.SEEN_BY: Answer(
        "Argo CD: repo-server renders the plain value into the manifest, and manifests are kept "
        "in its cache (Redis). And whoever may commit can have it rendered into anything.",
        not_run=_SIDECAR,
    ),
    Question.AWAY: Answer(
        "Rendering fails, and with it every sync of the application, also of what has no "
        "secret in it. What is in the cluster stays.",
        not_run="Argo CD's own words for it.",
    ),
}

_EXTERNAL = {
    Question.IN_GIT: Answer(
        "Where the secret is in Vault and who is to read it. The Secret is no part of what is "
        "rendered.",
    ),
    Question.KEY: Answer(
        "Nowhere for long: the operator asks Kubernetes for a short-lived token of a "
        "ServiceAccount, and shows that to Vault.",
    ),
    Question.ROTATION: Answer(
        "A write in Vault. No commit, no push, no sync: the operator reads again at its interval.",
    ),
    Question.LEAKED_REPOSITORY: Answer(
        "Paths, field names and the name of a role in Vault, no value.",
    ),
    Question.LEAKED_KEY: Answer(
        "What the role's policy may read, and only until the token ends: minutes. But whoever "
        "takes over the operator reads every Secret, as with Sealed Secrets' controller.",
    ),
    Question.SEEN_BY: Answer(
        "Vault, the operator, the API server. Git and what Argo CD renders never hold it.",
        not_run="Argo CD in between: lesson 07 does that with the course's own secret.",
    ),
    Question.AWAY: Answer(
        "Secrets stay as they are and the ExternalSecret says what is wrong; the rest of the "
        "application syncs. When Vault is back, it goes on by itself.",
        not_run="the operator away: it is the lab's own, and others rely on it.",
    ),
}

ANSWERS: Mapping[tuple[Way, Question], Answer] = MappingProxyType(
    {
        (way, question): answers[question]
        for way, answers in (
            (Way.PLAIN, _PLAIN),
            (Way.SEALED, _SEALED),
            (Way.PLUGIN, _PLUGIN),
            (Way.EXTERNAL, _EXTERNAL),
        )
        for question in Question
    }
)
