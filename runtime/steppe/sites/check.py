"""Whether the files of the section `sites` fit it: certificate, keys, and those of other sites."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from steppe.config import SitesSection
from steppe.disk import disk_errors
from steppe.errors import ConfigError, UsageError
from steppe.ledger.signing import PrivateKey, PublicKey
from steppe.sites.trust.certificates import Shown, shown
from steppe.sites.trust.tls import SiteTls, TlsFiles


def check_sites(section: SitesSection, now_s: float) -> None:
    """Check all files of the section.

    Args:
        section: The section, with whole paths.
        now_s: Clock of this host, s since the Unix epoch.

    Raises:
        ConfigError: One is missing, damaged or of another site, or the certificate has ended.
    """
    tls_of(section, now_s)
    keys = token_keys(section)
    try:
        own = PrivateKey.read(section.token_key).public
    except UsageError as error:
        raise ConfigError(f"sites.token_key: {error}") from error
    for name, of_peer in keys.items():
        if own in of_peer:
            raise ConfigError(f"sites.peers: asked for the keys of {name}, found that of this site")


def tls_of(section: SitesSection, now_s: float) -> SiteTls:
    """Return the TLS of a site, once its certificate is checked.

    Raises:
        ConfigError: The certificate is of another site or has ended, or a file cannot be used.
    """
    for name in ("certificate", "key", "authority"):
        path: Path = getattr(section, name)
        if not path.is_file():
            raise ConfigError(f"sites.{name}: asked for a file, found none: {path}")
    files = TlsFiles(section.certificate, section.key, section.authority)
    try:
        _check_certificate(section, now_s)
        return SiteTls(files)
    except UsageError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"sites.certificate: {error}") from error


def certificate_of(path: Path) -> Shown:
    """Return what the certificate of a file says.

    Raises:
        UsageError: It cannot be read, or is no certificate.
    """
    with disk_errors(path):
        data = path.read_bytes()
    try:
        return shown(data)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def token_keys(section: SitesSection) -> dict[str, tuple[PublicKey, ...]]:
    """Return the keys of the tokens of each other site.

    Raises:
        ConfigError: One is no key.
    """
    found = {}
    for peer in section.peers:
        try:
            found[peer.name] = tuple(PublicKey.read(text) for text in peer.token_keys)
        except UsageError as error:
            raise ConfigError(f"sites.peers: token_keys of {peer.name}: {error}") from error
    return found


def _check_certificate(section: SitesSection, now_s: float) -> None:
    found = certificate_of(section.certificate)
    if section.name not in found.names:
        names = ", ".join(found.names) or "none"
        asked = f"asked for a certificate of {section.name}"
        raise ConfigError(f"sites.certificate: {asked}, found the names {names:.120}")
    if not found.begin_s <= now_s < found.end_s:
        word, at_s = ("begin", found.begin_s) if now_s < found.begin_s else ("end", found.end_s)
        at = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")
        asked = "asked for a certificate that is valid"
        raise ConfigError(f"sites.certificate: {asked}, found its {word} at {at}")
