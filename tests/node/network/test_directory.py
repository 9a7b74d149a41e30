"""Names and tables: what leads where, and in which words the rest is refused."""

from __future__ import annotations

import random

import pytest

from labkit.node.network import Cause, Directory, Refused

from .conftest import endpoint, endpoint_slice, service


@pytest.fixture
def directory() -> Directory:
    """Vault as its chart makes it: a ClusterIP, and a headless Service for its one pod."""
    found = Directory()
    found.set_pod("10.244.0.5", "vault-0", "vault", {8200: 40001, 8201: 40002})
    found.set_node(["Lab", "10.244.255.1"], {10250: 40010})
    found.set_api_server("127.0.0.1", 6443)
    ip = {"clusterIP": "10.0.0.20", "clusterIPs": ["10.0.0.20"]}
    found.apply_service("ADDED", service("vault", {8200: 0, 80: 0}, **ip))
    vault_0 = endpoint("10.244.0.5", hostname="vault-0")
    found.apply_slice("ADDED", endpoint_slice("vault", {8200: 8200, 80: 8200}, vault_0))
    found.apply_service("ADDED", service("vault-internal", {80: 0}, clusterIP="None"))
    found.apply_slice("ADDED", endpoint_slice("vault-internal", {80: 8200}, vault_0))
    found.apply_service("ADDED", service("kubernetes", {443: 0}, namespace="default"))
    return found


@pytest.mark.parametrize(
    "host",
    [
        "vault",
        "vault.vault",
        "VAULT.Vault",
        "vault.vault.svc",
        "vault.vault.svc.cluster.local",
        "vault.vault.svc.cluster.local.",
        "10.0.0.20",
        "10.244.0.5",
        "10-244-0-5.vault.pod",
        "10-244-0-5.vault.pod.cluster.local",
        "vault-internal.vault",
        "vault-0.vault-internal.vault",
        "vault-0.vault-internal.vault.svc",
        "vault-0.vault-internal.vault.svc.cluster.local",
    ],
)
def test_each_form_of_a_name_leads_to_the_pod(directory: Directory, host: str) -> None:
    assert directory.resolve(host, 8200) == [("127.0.0.1", 40001)]


def test_a_service_translates_ports_and_a_headless_one_does_not(directory: Directory) -> None:
    assert directory.resolve("vault.vault", 80) == [("127.0.0.1", 40001)]
    assert directory.resolve("vault-internal.vault", 8201) == [("127.0.0.1", 40002)]
    with pytest.raises(Refused, match=r"no containerPort 80 \(it has 8200, 8201\)"):
        directory.resolve("vault-internal.vault", 80)
    with pytest.raises(Refused, match=r"vault/vault has no port 8201 \(it has 8200, 80\)"):
        directory.resolve("vault.vault", 8201)


def test_short_names_mean_the_callers_namespace(directory: Directory) -> None:
    directory.set_pod("10.244.0.6", "vault-0", "mine", {8200: 40003})
    directory.apply_service("ADDED", service("vault", {8200: 0}, namespace="mine"))
    mine = endpoint_slice("vault", {8200: 8200}, endpoint("10.244.0.6"), namespace="mine")
    directory.apply_slice("ADDED", mine)
    assert directory.resolve("vault", 8200, namespace="mine") == [("127.0.0.1", 40003)]
    assert directory.resolve("vault", 8200, namespace="vault") == [("127.0.0.1", 40001)]
    in_vault = directory.resolve("vault-0.vault-internal", 8200, namespace="vault")
    assert in_vault == [("127.0.0.1", 40001)]
    with pytest.raises(Refused, match=r"could be any of vault\.mine, vault\.vault"):
        directory.resolve("vault", 8200)
    with pytest.raises(Refused, match="No Service vault in namespace other"):
        directory.resolve("vault", 8200, namespace="other")


def test_the_api_server_by_name_and_nodes_for_the_api_server_alone(directory: Directory) -> None:
    for host in ("kubernetes", "kubernetes.default", "kubernetes.default.svc"):
        assert directory.resolve(host, 443) == [("127.0.0.1", 6443)]
    for host in ("lab", "10.244.255.1"):
        assert directory.resolve(host, 10250, nodes=True) == [("127.0.0.1", 40010)]
        with pytest.raises(Refused):
            directory.resolve(host, 10250)


@pytest.mark.parametrize(
    "host",
    [
        "example.com", "www.example.com", "a.b.c.d.example.com", "localhost", "LOCALHOST.",
        "x.localhost", "127.0.0.1", "192.168.1.1", "169.254.169.254", "::1",
        "::ffff:10.244.0.5", "fe80::1%eth0", "127.1", "2130706433", "0x7f000001", "0x7f.1",
        "0177.0.0.1", "10.244.0.5.nip.io", "vault_x.y", "vault..vault", ".vault", "-", "%31",
        "xn--.", "vault.vault.svc.cluster.local.example.com",
        "0.0.0.0", "x" * 300, "", "vault vault",  # noqa: S104
    ],
)  # fmt: skip
def test_all_else_is_outside(directory: Directory, host: str) -> None:
    with pytest.raises(Refused) as caught:
        directory.resolve(host, 8200)
    assert caught.value.cause is Cause.OUTSIDE
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("host", "line"),
    [
        ("nope", "No Service nope in any namespace"),
        ("valut.vault", "No Service valut in namespace vault; see: kubectl -n vault get services"),
        ("valut.nope.svc", "No Service valut in namespace nope"),
        ("vault-9.vault-internal.vault", "No pod vault-9 in Service vault/vault-internal"),
        ("vault-0.vault.vault", "No pod vault-0 in Service vault/vault"),
        ("10.244.0.99", r"No pod has the address 10\.244\.0\.99"),
        ("10-244-0-5.other.pod", "No pod has the address"),
    ],
)
def test_a_mistake_within_the_cluster_is_told_as_one(
    directory: Directory, host: str, line: str
) -> None:
    with pytest.raises(Refused, match=line) as caught:
        directory.resolve(host, 8200)
    assert caught.value.cause is Cause.UNKNOWN


def test_readiness(directory: Directory) -> None:
    def now(*endpoints: object, **spec: object) -> list[int]:
        directory.apply_service("MODIFIED", service("vault", {8200: 0}, **spec))
        slice_ = endpoint_slice("vault", {8200: 8200}, *endpoints)  # type: ignore[arg-type]
        directory.apply_slice("MODIFIED", slice_)
        return [port for _, port in directory.resolve("vault.vault", 8200)]

    directory.set_pod("10.244.0.6", "vault-1", "vault", {8200: 40006})
    one, two = "10.244.0.5", "10.244.0.6"
    assert now(endpoint(one), endpoint(two)) == [40001, 40006]
    assert now(endpoint(one, ready=None), endpoint(two, ready=False)) == [40001]
    line = "Service vault/vault has no ready endpoints; see: kubectl -n vault get pods"
    with pytest.raises(Refused) as caught:
        now(endpoint(one, ready=False), endpoint(two, ready=False))
    assert (str(caught.value), caught.value.cause) == (line, 503)
    early = {"publishNotReadyAddresses": True}
    assert now(endpoint(one, ready=False), **early) == [40001]
    leaving = {"serving": True, "terminating": True}
    assert now(endpoint(one, ready=False, **leaving), endpoint(two, ready=False)) == [40001]
    assert now(endpoint(one, ready=False, **leaving), endpoint(two)) == [40006]
    directory.remove_pod(two)
    with pytest.raises(Refused, match="no ready endpoints"):
        now(endpoint(two))


def test_nothing_in_the_api_can_lead_out(directory: Directory) -> None:
    outside = endpoint_slice("out", {80: 80}, endpoint("192.168.1.1"), endpoint("127.0.0.1"))
    directory.apply_slice("ADDED", outside)
    directory.apply_service("ADDED", service("out", {80: 0}))
    with pytest.raises(Refused, match="no ready endpoints"):
        directory.resolve("out.vault", 80)
    external = {"type": "ExternalName", "externalName": "example.com"}
    directory.apply_service("ADDED", service("ext", {80: 0}, **external))
    with pytest.raises(Refused, match=r"ExternalName for example\.com") as caught:
        directory.resolve("ext.vault", 80)
    assert caught.value.cause is Cause.OUTSIDE


def test_a_late_deletion_does_not_take_a_successor(directory: Directory) -> None:
    old = service("vault", {8200: 0})
    old["metadata"]["uid"] = "of an earlier one"
    directory.apply_service("DELETED", old)
    assert directory.resolve("vault.vault", 8200)
    directory.apply_service("DELETED", service("vault", {8200: 0}))
    with pytest.raises(Refused, match="No Service vault"):
        directory.resolve("vault.vault", 8200)


@pytest.mark.parametrize("seed", range(40))
def test_any_tables_lead_exactly_to_their_ready_pods(seed: int) -> None:
    """Random Services, split over random slices, told in random order, some of it twice."""
    rng = random.Random(seed)
    directory = Directory()
    events = []
    expected: dict[tuple[str, str, int], set[tuple[str, int]]] = {}
    for number in range(rng.randint(1, 30)):
        directory.set_pod(f"10.244.0.{number}", f"pod-{number}", "any", {8080: 20000 + number})
    for number in range(rng.randint(1, 8)):
        name, namespace = f"svc-{number}", rng.choice(["red", "green"])
        port = rng.randint(1, 65535)
        events.append((directory.apply_service, service(name, {port: 0}, namespace=namespace)))
        ready = expected.setdefault((name, namespace, port), set())
        for piece in range(rng.randint(0, 3)):
            chosen = rng.sample(range(40), rng.randint(0, 5))  # some of them are no pods
            flags = [rng.choice([True, False, None]) for _ in chosen]
            endpoints = [
                endpoint(f"10.244.0.{n}", ready=flag) for n, flag in zip(chosen, flags, strict=True)
            ]
            item = endpoint_slice(name, {port: 8080}, *endpoints, namespace=namespace)
            item["metadata"]["name"] += str(piece)
            events.append((directory.apply_slice, item))
            ready |= {
                ("127.0.0.1", 20000 + n)
                for n, flag in zip(chosen, flags, strict=True)
                if flag is not False and f"10.244.0.{n}" in directory._pods
            }
    events += rng.sample(events, len(events) // 2)
    rng.shuffle(events)
    for apply, item in events:
        apply(rng.choice(["ADDED", "MODIFIED"]), item)
    for (name, namespace, port), endpoints_ in expected.items():
        host = rng.choice([f"{name}.{namespace}", f"{name}.{namespace}.svc.cluster.local", name])
        if endpoints_:
            assert set(directory.resolve(host, port)) == endpoints_
        else:
            with pytest.raises(Refused, match="has no ready endpoints"):
                directory.resolve(host, port)
    for apply, item in events:
        apply("DELETED", item)
    with pytest.raises(Refused):
        directory.resolve(name, port)
    assert not directory._services
    assert not directory._slices
