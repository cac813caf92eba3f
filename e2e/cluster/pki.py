"""Certificates and keys of one cluster, made in this process.

Elliptic curves: a whole cluster's worth takes milliseconds.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2e.cluster.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

LIFETIME = dt.timedelta(days=3650)
# Clocks of nodes may differ a little.
BACKDATE = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        return private_pem(self.key)


@dataclass(frozen=True, slots=True)
class Subject:
    """Who a certificate is for; `hosts` makes it a server's, else it is a client's."""

    common_name: str
    organization: str | None = None
    hosts: tuple[str, ...] = ()


def create_authority(common_name: str) -> KeyPair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
    )
    return KeyPair(builder.sign(key, hashes.SHA256()), key)


def issue(authority: KeyPair, subject: Subject) -> KeyPair:
    """Return a certificate signed by the authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)]
    if subject.organization is not None:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.organization))
    builder = _builder(x509.Name(attributes), authority.certificate.subject, key.public_key())
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    ).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
        critical=False,
    )
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH
    if subject.hosts:
        purpose = ExtendedKeyUsageOID.SERVER_AUTH
        names = x509.SubjectAlternativeName([_general_name(host) for host in subject.hosts])
        builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return KeyPair(builder.sign(authority.key, hashes.SHA256()), key)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


@dataclass(frozen=True, slots=True)
class Pki:
    """The key pairs of a cluster as files, each made when first asked for."""

    directory: Path

    def certificate(self, name: str) -> Path:
        return self.directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.directory / f"{name}.key"

    def public_key(self, name: str) -> Path:
        return self.directory / f"{name}.pub"

    def ensure_authority(self, name: str) -> None:
        if not self._has(name):
            self._write(name, create_authority(f"modelwright-{name}"))

    def ensure_issued(self, name: str, subject: Subject, *, authority: str = "ca") -> None:
        if not self._has(name):
            self._write(name, issue(self._read(authority), subject))

    def ensure_signing_key(self, name: str) -> None:
        """Make the key pair that signs service account tokens."""
        if self.key(name).exists() and self.public_key(name).exists():
            return
        key = ec.generate_private_key(ec.SECP256R1())
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write_atomically(self.key(name), private_pem(key), mode=0o600)
        write_atomically(self.public_key(name), public)

    def client_context(self, user: str | None = None) -> ssl.SSLContext:
        """Return what a client needs that trusts this cluster, and may be `user`."""
        context = ssl.create_default_context(cafile=str(self.certificate("ca")))
        if user is not None:
            context.load_cert_chain(self.certificate(user), self.key(user))
        return context

    def _has(self, name: str) -> bool:
        return self.certificate(name).exists() and self.key(name).exists()

    def _read(self, name: str) -> KeyPair:
        key = serialization.load_pem_private_key(self.key(name).read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self.key(name)} holds no elliptic curve key")
        certificate = x509.load_pem_x509_certificate(self.certificate(name).read_bytes())
        return KeyPair(certificate, key)

    def _write(self, name: str, pair: KeyPair) -> None:
        # The certificate last: it is what `_has` needs beside the key.
        write_atomically(self.key(name), pair.key_pem(), mode=0o600)
        write_atomically(self.certificate(name), pair.certificate_pem())


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
