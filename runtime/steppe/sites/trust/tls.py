"""TLS between sites: both sides show a certificate of the sites' authority.

The files may be replaced while the process runs: `SiteTls.reload` loads them into the contexts that
are in use, and new connections have the new certificate. A new authority is added; one that was
taken out of its file is trusted until the process starts anew.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from steppe.errors import UsageError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files of a site.

    Attributes:
        certificate: Its certificate, PEM.
        key: The private key, PEM, not encrypted; may be the same file.
        authority: Certificates of the authorities of all sites, PEM.
    """

    certificate: Path
    key: Path
    authority: Path


class SiteTls:
    """The TLS contexts of a site, as the caller and as the called one."""

    def __init__(self, files: TlsFiles) -> None:
        """Load the files.

        Raises:
            UsageError: One cannot be read, is no PEM, or key and certificate do not fit.
        """
        self._files, self._stamp = files, _stamp(files)
        self.server = _context(ssl.PROTOCOL_TLS_SERVER)
        self.client = _context(ssl.PROTOCOL_TLS_CLIENT)
        for context in (self.server, self.client):
            _load(context, files)

    def reload(self) -> bool:
        """Load files that have changed; return whether any had.

        Raises:
            UsageError: They cannot be loaded; the ones loaded before stay in use.
        """
        stamp = _stamp(self._files)
        if stamp == self._stamp:
            return False
        _load(
            _context(ssl.PROTOCOL_TLS_CLIENT), self._files
        )  # all of them are good, or none is used
        for context in (self.server, self.client):
            _load(context, self._files)
        self._stamp = stamp
        return True


def _context(protocol: ssl._SSLMethod) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load(context: ssl.SSLContext, files: TlsFiles) -> None:
    try:
        # A password, even an empty one, keeps OpenSSL from asking at the terminal.
        context.load_cert_chain(files.certificate, files.key, password="")
        context.load_verify_locations(files.authority)
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error.strerror or "not PEM"
        asked = f"asked for PEM in {files.certificate}, {files.key} and {files.authority}"
        raise UsageError(f"{asked}, found: {str(reason).lower().replace('_', ' ')}") from error


def _stamp(files: TlsFiles) -> tuple[tuple[int, int, int], ...]:
    """Return what changes when a file is replaced.

    Raises:
        UsageError: A file cannot be read.
    """
    stamps = []
    for path in (files.certificate, files.key, files.authority):
        try:
            found = path.stat()
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}") from error
        stamps.append((found.st_ino, found.st_mtime_ns, found.st_size))
    return tuple(stamps)
