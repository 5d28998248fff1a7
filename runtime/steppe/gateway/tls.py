"""TLS of the gateway, from certificate files."""

from __future__ import annotations

import ssl
from pathlib import Path

from steppe.errors import UsageError


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return a server's context, TLS 1.2 or newer; None without a certificate.

    Args:
        certificate: The certificate and those that lead to its root, in PEM.
        key: Its private key, in PEM, not encrypted.

    Raises:
        UsageError: A file cannot be read, is no PEM, or the key belongs to another certificate.
    """
    if certificate is None or key is None:
        return None
    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise UsageError(f"gateway.{name}: {path}: {error.strerror}") from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # A password, even an empty one, keeps OpenSSL from asking at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        asked = "asked for a certificate in PEM and its key without a password"
        reason = (error.reason or "not PEM").lower().replace("_", " ")
        raise UsageError(f"gateway.tls_certificate: {certificate}: {asked}: {reason}") from error
    return context
