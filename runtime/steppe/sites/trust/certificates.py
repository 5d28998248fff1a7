"""Certificates of sites: an authority for tests and small networks, and 24-hour certificates of it.

Larger networks use cert-manager or SPIFFE; then only the files matter. A certificate begins five
minutes early, for hosts whose clock is a little slow. It holds the name of the site as a DNS name
(RFC 5280, 4.2.1.6), for both sides of TLS.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from steppe.disk import disk_errors, sync_folder
from steppe.errors import UsageError

VALID_S = 24 * 3600
"""Life of a site's certificate, s."""
AUTHORITY_VALID_S = 365 * 24 * 3600
_EARLY_S = 300
_RENEW_AT = 1 / 3
"""Share of its life that is left when a certificate is renewed."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a certificate says.

    Attributes:
        names: Its DNS names: a site has one.
        begin_s: When it begins, s since the Unix epoch.
        end_s: When it ends, s since the Unix epoch.
    """

    names: tuple[str, ...]
    begin_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate and its key, PEM.

    Attributes:
        certificate: The certificate.
        key: Its private key, not encrypted.
    """

    certificate: bytes
    key: bytes = field(repr=False)


def new_authority(name: str, now_s: float) -> Credential:
    """Return an authority that signs certificates of sites, valid for a year from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    built = (
        _begun(subject, subject, key.public_key(), now_s, AUTHORITY_VALID_S)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_authority=True), critical=True)
    )
    return _credential(built.sign(key, hashes.SHA256()), key)


def issue(authority: Credential, site: str, now_s: float, valid_s: float = VALID_S) -> Credential:
    """Return a certificate of a site, with a new key.

    Args:
        authority: Who signs it.
        site: Name of the site.
        now_s: Clock of this host, s since the Unix epoch.
        valid_s: It ends this long after now, s.

    Raises:
        UsageError: The authority is no certificate and key.
    """
    try:
        signer = serialization.load_pem_private_key(authority.key, password=None)
        issuer = x509.load_pem_x509_certificate(authority.certificate)
    except (ValueError, TypeError) as error:
        raise UsageError(
            "asked for the certificate and key of an authority, found others"
        ) from error
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise UsageError(f"asked for an EC key of an authority, found {type(signer).__name__}")
    key = ec.generate_private_key(ec.SECP256R1())
    both = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    from_signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    built = (
        _begun(_name(site), issuer.subject, key.public_key(), now_s, valid_s)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(site)]), critical=False)
        .add_extension(from_signer, critical=False)
    )
    return _credential(built.sign(signer, hashes.SHA256()), key)


def shown(certificate: bytes) -> Shown:
    """Return what a certificate says, PEM; of several the first one.

    Raises:
        UsageError: It is no certificate.
    """
    try:
        found = x509.load_pem_x509_certificate(certificate)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = tuple(names.get_values_for_type(x509.DNSName))
    except ValueError as error:
        raise UsageError("asked for a certificate in PEM, found none") from error
    except x509.ExtensionNotFound:
        dns = ()
    begin, end = found.not_valid_before_utc, found.not_valid_after_utc
    return Shown(dns, begin.timestamp(), end.timestamp())


def is_due(certificate: bytes, now_s: float) -> bool:
    """Return whether a third or less of a certificate's life is left.

    Raises:
        UsageError: It is no certificate.
    """
    found = shown(certificate)
    return found.end_s - now_s <= _RENEW_AT * (found.end_s - found.begin_s)


def write_credential(path: Path, credential: Credential) -> None:
    """Write key and certificate to one file that only its owner may read, in one step.

    Raises:
        DiskFullError: No space is left.
        UsageError: It cannot be written.
    """
    write_private(path, credential.key + credential.certificate)


def read_credential(path: Path) -> Credential:
    """Return key and certificate of a file of `write_credential`.

    Raises:
        UsageError: It cannot be read, or does not hold both.
    """
    with disk_errors(path):
        found = path.read_bytes()
    mark = b"-----BEGIN CERTIFICATE-----"
    key, _, rest = found.partition(mark)
    if b"PRIVATE KEY-----" not in key or not rest:
        raise UsageError(f"{path}: asked for a private key and its certificate, found others")
    return Credential(mark + rest, key)


def renew(path: Path, authority: Credential, site: str, now_s: float) -> bool:
    """Renew the certificate of a file if it is due or cannot be read; return whether it was.

    Raises:
        DiskFullError: No space is left.
        UsageError: It cannot be written, or the authority is none.
    """
    try:
        if not is_due(read_credential(path).certificate, now_s):
            return False
    except UsageError:
        pass  # a file that is gone or damaged is replaced
    write_credential(path, issue(authority, site, now_s))
    return True


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, in one step.

    Raises:
        DiskFullError: No space is left.
        UsageError: It cannot be written.
    """
    with disk_errors(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def _begun(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now_s: float,
    valid_s: float,
) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(now_s, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=_EARLY_S))
        .not_valid_after(now + timedelta(seconds=valid_s))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _credential(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Credential:
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Credential(certificate.public_bytes(serialization.Encoding.PEM), private)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
