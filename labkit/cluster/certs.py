"""The lab's certificate authority, the certificates it signs, and the token key.

Each lab makes an authority of its own at its start and throws it away at its end, so
nothing here renews or revokes.  All keys are EC P-256: a whole set takes about 10 ms,
where RSA takes a second.  Files are 0600.  Who gets which certificate is decided in
``controlplane``.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from labkit.paths import make_private_dir, write_private

_VALIDITY = datetime.timedelta(days=365)
_CLOCK_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """Signs for one lab.  Its private key stays in memory and is never written."""

    def __init__(self, directory: Path, name: str) -> None:
        """Make a new authority that keeps its files in ``directory``."""
        self.directory = make_private_dir(directory)
        self.ca = directory / "ca.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(f"labkit {name}", ())
        self._cert = (
            _builder(subject, subject, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        write_private(self.ca, _pem(self._cert))

    def server(self, name: str, hosts: Sequence[str]) -> KeyPair:
        """A serving certificate for ``hosts`` (DNS names and addresses)."""
        return self._issue(name, _name(name, ()), ExtendedKeyUsageOID.SERVER_AUTH, hosts)

    def client(self, name: str, *, user: str, groups: Sequence[str] = ()) -> KeyPair:
        """A client certificate that Kubernetes reads as ``user`` in ``groups``.

        Source: kubernetes.io/docs/reference/access-authn-authz/authentication
        (common name = user, organizations = groups).
        """
        return self._issue(name, _name(user, groups), ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def _issue(
        self, name: str, subject: x509.Name, purpose: x509.ObjectIdentifier, hosts: Sequence[str]
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject, self._cert.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if hosts:
            names = x509.SubjectAlternativeName([_host(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        pair = KeyPair(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        write_private(pair.cert, _pem(builder.sign(self._key, hashes.SHA256())))
        write_private(pair.key, _private_pem(key))
        return pair


@dataclass(frozen=True)
class TokenKey:
    """The key that signs ServiceAccount tokens, and the public half that verifies them.

    Two files, because the API server refuses to verify with a private-key file.
    """

    private: Path
    public: Path

    @classmethod
    def create(cls, directory: Path) -> TokenKey:
        """Make and write a new key pair."""
        key = ec.generate_private_key(ec.SECP256R1())
        pair = cls(directory / "sa.key", directory / "sa.pub")
        write_private(pair.private, _private_pem(key))
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write_private(pair.public, public)
        return pair


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALIDITY)
    )


def _name(user: str, groups: Sequence[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
