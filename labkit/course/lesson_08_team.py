"""Lesson 08's team: what has happened in its namespace before the lesson begins.

Real logins and real reads, each by the identity that it is told of, so that the logs hold
the evidence which the exercises ask for.  What went on, in order:

1. The way of the team's secret works; ESO fetches version 1.
2. The printer gets a token of the ServiceAccount stocktaking, and reads version 1 with it.
3. The password is changed (version 2), and packing reads that one, as it should.
4. Somebody misspells the policy in ESO's role: its next attempt is refused.
"""

from __future__ import annotations

from labkit.course.script import applied
from labkit.vault import AUDIENCE, MOUNT

NAMES = {"team": "warehouse", "report": "findings"}
READER = "vault-reader"
EXTERNAL_SECRET = "stock-credentials"
ROLE = "stock-sync"
JOBS_ROLE = "stock-jobs"
POLICY = "stock-read"

GOOD_POLICY = f"""\
bao policy write {POLICY} - > /dev/null <<'POLICY'
path "{MOUNT}/data/warehouse/stock" {{
  capabilities = ["read"]
}}
POLICY
"""
FETCH = f"""\
kubectl -n warehouse annotate externalsecret {EXTERNAL_SECRET} \\
    force-sync=$(date +%s%N) --overwrite
"""


def role(policies: str, accounts: str = READER, name: str = ROLE) -> str:
    """The script that writes one of the team's roles, whole."""
    return f"""\
bao write auth/kubernetes/role/{name} token_policies={policies} token_ttl=10m \\
    audience={AUDIENCE} bound_service_account_namespaces=warehouse \\
    bound_service_account_names={accounts} > /dev/null
"""


BREAK = role("stock-reed")
EXTERNAL_SECRET_APPLIED = applied("08-behind-the-scenes/stock.yaml")

# The password comes by standard input; a token is in one command's environment.
_NEW_PASSWORD = f"""\
head -c 12 /dev/urandom | base64 | tr -d '\\n' |
    bao kv put -mount={MOUNT} warehouse/stock username=stock password=- > /dev/null
"""


def _reads(login: str) -> str:
    return f"""\
BAO_TOKEN="$(
    {login} |
        bao write -field=token auth/kubernetes/login role={JOBS_ROLE} jwt=-
)" bao kv get -mount={MOUNT} -field=username warehouse/stock > /dev/null
"""


BEGIN = f"""\
{_NEW_PASSWORD}\
{GOOD_POLICY}\
{role(POLICY)}\
{role(POLICY, "packing,stocktaking", JOBS_ROLE)}\
{applied("08-behind-the-scenes/team.yaml")}\
kubectl -n warehouse wait --for=condition=Ready secretstore/warehouse-vault --timeout=30s
{EXTERNAL_SECRET_APPLIED}\
printer=$(mktemp -d)
trap 'rm -rf "$printer"' EXIT
kubectl -n warehouse create token printer > "$printer/token"
cat > "$printer/kubeconfig" <<CONFIG
apiVersion: v1
kind: Config
users: [{{name: printer, user: {{tokenFile: $printer/token}}}}]
CONFIG
as_printer() {{ KUBECONFIG="$KUBECONFIG:$printer/kubeconfig" kubectl --user=printer "$@"; }}
{_reads(f"as_printer -n warehouse create token stocktaking --audience={AUDIENCE}")}\
kubectl -n warehouse wait --for=condition=Ready externalsecret/{EXTERNAL_SECRET} --timeout=30s
{_NEW_PASSWORD}\
{_reads(f"kubectl -n warehouse create token packing --audience={AUDIENCE}")}\
{BREAK}\
{FETCH}\
kubectl -n warehouse wait --for=condition=Ready=false externalsecret/{EXTERNAL_SECRET} --timeout=30s
"""


def key(team: str) -> str:
    """The team's secret in Vault's KV mount."""
    return f"{team}/stock"
