"""Lesson 04: ExternalSecrets and templates: any file from what Vault holds."""

from __future__ import annotations

from labkit.course.lesson_04_credentials import CREDENTIALS
from labkit.course.lesson_04_team import BROKEN_ORDERS, MEND, ORDERS_KEY, SETTINGS, SETTINGS_KEY
from labkit.course.model import Choice, Lesson, Question, Quiz
from labkit.course.script import applied
from labkit.vault import MOUNT

NAMES = {"settings": "shop-settings", "orders": "orders-credentials"}

# `find` lists names, and in KV v2 names are below metadata/: reading data/ is not enough.
BEGIN = f"""\
head -c 12 /dev/urandom | base64 | tr -d '\\n' | bao kv put -mount={MOUNT} {ORDERS_KEY} \\
    username=orders password=- > /dev/null
bao kv put -mount={MOUNT} {SETTINGS_KEY} cache-host=cache.shop cache-port=6379 \\
    motto='Say "yes"' > /dev/null
bao policy write shop - <<'POLICY'
path "{MOUNT}/data/shop/*" {{
  capabilities = ["read"]
}}
path "{MOUNT}/metadata/shop/*" {{
  capabilities = ["list"]
}}
POLICY
bao write auth/kubernetes/role/shop policies=shop ttl=10m audience=vault \\
    bound_service_account_names=vault-reader bound_service_account_namespaces=shop
{applied("04-external-secrets/team.yaml")}\
kubectl -n shop wait --for=condition=Ready secretstore/shop-vault --timeout=30s
{BROKEN_ORDERS}"""

QUIZ = Quiz(
    (
        Question(
            "The application wants a YAML file with other names in it. What do you change?",
            (
                Choice(
                    "The secret in Vault",
                    "Then Vault would follow one application's file format, and the next "
                    "application wants another.",
                ),
                Choice(
                    "The template",
                    "Values live in Vault, their shape in the ExternalSecret, and the application "
                    "stays as it is.",
                    right=True,
                ),
                Choice(
                    "The application, so that it asks Vault",
                    "It would need a client, a token and a new release. A file needs none of them.",
                ),
            ),
        ),
        Question(
            "An ExternalSecret is not Ready: “could not get secret data from provider”. "
            "Where is the reason?",
            (
                Choice(
                    "In the events of the ExternalSecret",
                    "The condition says that it failed; the event has the provider's own words, "
                    "with the path and the code.",
                    right=True,
                ),
                Choice(
                    "In the Secret",
                    "ESO left it as it was, and so it tells nothing.",
                ),
                Choice(
                    "In the pod's log",
                    "The pod has the old file and notices nothing at all.",
                ),
            ),
        ),
        Question(
            "Somebody misspells a property in an ExternalSecret that worked. What happens to "
            "the Secret that is there already?",
            (
                Choice(
                    "It is deleted",
                    "Not even with deletionPolicy: Delete, which is about secrets that are gone "
                    "from the provider.",
                ),
                Choice(
                    "That key becomes empty",
                    "ESO writes all or nothing: an application never sees half a Secret.",
                ),
                Choice(
                    "Nothing: it keeps its last good values",
                    "So applications run on, and nobody notices until the next rotation does not "
                    "arrive. Watch the Ready condition.",
                    right=True,
                ),
            ),
        ),
    )
)

LESSON = Lesson(
    number=4,
    slug="external-secrets",
    title="ExternalSecrets and templates",
    stage="store",
    begins_with="a store that ESO can read from, and a team called shop with a store of its own",
    missing="an ExternalSecret, and so a Secret; one that the team has does not work",
    begin=BEGIN,
    names=NAMES,
    exercises=(CREDENTIALS, SETTINGS, MEND),
    quiz=QUIZ,
)
