from __future__ import annotations

import ipaddress
import ssl
import stat
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from e2e.cluster.pki import KeyPair, Pki, Subject, create_authority, issue

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    return create_authority("test-ca")


def extended_usage(pair: KeyPair) -> list[x509.ObjectIdentifier]:
    usage = pair.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    return list(usage.value)


def test_client_certificate_names_user_and_group(authority: KeyPair) -> None:
    pair = issue(authority, Subject("system:node:n1", "system:nodes"))

    subject = pair.certificate.subject
    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:n1"
    assert subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"
    assert extended_usage(pair) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_server_certificate_names_addresses_and_hosts(authority: KeyPair) -> None:
    pair = issue(authority, Subject("server", hosts=("10.77.0.1", "localhost")))

    names = pair.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.77.0.1")]
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert extended_usage(pair) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_certificate_is_signed_by_its_authority_and_no_other(authority: KeyPair) -> None:
    pair = issue(authority, Subject("server", hosts=("localhost",)))

    pair.certificate.verify_directly_issued_by(authority.certificate)
    with pytest.raises(ValueError, match=r"[Ii]ssuer"):
        pair.certificate.verify_directly_issued_by(create_authority("other").certificate)


def make_all(pki: Pki) -> dict[str, bytes]:
    pki.ensure_authority("ca")
    pki.ensure_issued("admin", Subject("admin", "system:masters"))
    pki.ensure_signing_key("service-account")
    return {path.name: path.read_bytes() for path in pki.directory.iterdir()}


def test_key_pairs_on_disk_are_made_once(tmp_path: Path) -> None:
    first, second = (make_all(Pki(tmp_path)) for _ in range(2))

    assert first == second
    assert set(first) == {
        "ca.crt",
        "ca.key",
        "admin.crt",
        "admin.key",
        "service-account.key",
        "service-account.pub",
    }


def test_half_a_key_pair_is_made_anew(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    pki.ensure_authority("ca")
    pki.ensure_issued("admin", Subject("admin"))
    pki.certificate("admin").unlink()

    pki.ensure_issued("admin", Subject("admin"))

    context = ssl.create_default_context(cafile=str(pki.certificate("ca")))
    context.load_cert_chain(pki.certificate("admin"), pki.key("admin"))  # refuses a mismatch


def test_private_keys_are_for_their_owner_only(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    pki.ensure_authority("ca")

    assert stat.S_IMODE(pki.key("ca").stat().st_mode) == 0o600
