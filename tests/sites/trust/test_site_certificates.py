from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from steppe.errors import UsageError
from steppe.sites.trust.certificates import (
    VALID_S,
    Credential,
    is_due,
    issue,
    new_authority,
    read_credential,
    renew,
    write_credential,
)
from steppe.sites.trust.identity import RefusedPeerError, identity_of
from steppe.sites.trust.tls import SiteTls, TlsFiles

NOW_S = 1_790_000_000.0
SITES = frozenset({"hohhot", "shanghai"})


@pytest.fixture(scope="module")
def authority() -> Credential:
    return new_authority("steppe test", NOW_S)


def certificate(*names: str, end: str = "Nov  1 00:00:00 2026 GMT") -> dict[str, Any]:
    """Return a certificate as the ssl module does."""
    return {"notAfter": end, "subjectAltName": tuple(("DNS", name) for name in names)}


def test_the_one_name_of_the_list_is_the_identity() -> None:
    assert identity_of(certificate("hohhot", "node-7"), SITES, NOW_S) == "hohhot"


@pytest.mark.parametrize(
    "refused",
    [
        None,
        {},
        certificate(),
        certificate("harbin"),
        certificate("hohhot", "shanghai"),
        certificate("hohhot", end="Jan  1 00:00:00 2026 GMT"),
        certificate("hohhot", end=""),
        {"subject": ((("commonName", "hohhot"),),), "notAfter": "Nov  1 00:00:00 2026 GMT"},
        {"notAfter": "Nov  1 00:00:00 2026 GMT", "subjectAltName": (("URI", "hohhot"),)},
    ],
)
def test_a_certificate_that_is_no_site_of_the_list_is_refused(refused: Any) -> None:
    with pytest.raises(RefusedPeerError):
        identity_of(refused, SITES, NOW_S)


def test_a_certificate_is_due_when_a_third_of_its_life_is_left(authority: Credential) -> None:
    found = issue(authority, "hohhot", NOW_S).certificate
    assert not is_due(found, NOW_S + 0.6 * VALID_S)
    assert is_due(found, NOW_S + 0.7 * VALID_S)


def test_renewing_writes_a_new_certificate_only_when_it_is_due(
    authority: Credential, tmp_path: Path
) -> None:
    path = tmp_path / "hohhot.pem"
    assert renew(path, authority, "hohhot", NOW_S)
    first = path.read_bytes()
    assert not renew(path, authority, "hohhot", NOW_S + 3600)
    assert path.read_bytes() == first
    assert renew(path, authority, "hohhot", NOW_S + 0.7 * VALID_S)
    assert path.read_bytes() != first
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_is_renewed(authority: Credential, tmp_path: Path) -> None:
    path = tmp_path / "hohhot.pem"
    path.write_text("-----BEGIN")
    assert renew(path, authority, "hohhot", NOW_S)
    assert read_credential(path).key


def test_files_that_cannot_be_loaded_leave_the_ones_before_in_use(
    authority: Credential, tmp_path: Path
) -> None:
    path, trusted = tmp_path / "hohhot.pem", tmp_path / "authority.pem"
    trusted.write_bytes(authority.certificate)
    write_credential(path, issue(authority, "hohhot", time.time()))
    tls = SiteTls(TlsFiles(path, path, trusted))
    assert not tls.reload()
    path.write_text("no certificate")
    with pytest.raises(UsageError, match="asked for PEM in"):
        tls.reload()
    write_credential(path, issue(authority, "hohhot", time.time()))
    assert tls.reload()
    assert not tls.reload()


def test_a_key_of_another_certificate_is_refused(authority: Credential, tmp_path: Path) -> None:
    one, two = (issue(authority, "hohhot", time.time()) for _ in range(2))
    path, trusted = tmp_path / "hohhot.pem", tmp_path / "authority.pem"
    trusted.write_bytes(authority.certificate)
    write_credential(path, Credential(one.certificate, two.key))
    with pytest.raises(UsageError, match="mismatch"):
        SiteTls(TlsFiles(path, path, trusted))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.pem"
    with pytest.raises(UsageError, match=r"none\.pem: No such file"):
        SiteTls(TlsFiles(path, path, path))


def test_no_key_is_shown(authority: Credential) -> None:
    assert "PRIVATE" not in repr(authority)
