"""A folder with all that some sites need to trust each other: for tests, demos and small networks.

DIR/authority/authority.pem    key and certificate of the authority: keep it apart
DIR/NAME/certificate.pem       key and certificate of the site, 24 h
DIR/NAME/authority.pem         certificate of the authority
DIR/NAME/tokens.key            key that signs tokens of its tenants
DIR/NAME/sites.yaml            the other sites, their addresses and keys
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from steppe.disk import disk_errors
from steppe.errors import UsageError
from steppe.ledger.signing import PrivateKey
from steppe.sites.beats.fields import NAME
from steppe.sites.trust.certificates import (
    Credential,
    issue,
    new_authority,
    read_credential,
    renew,
    write_credential,
)

AUTHORITY = "authority"
CERTIFICATE, TRUSTED, TOKENS, STUB = "certificate.pem", "authority.pem", "tokens.key", "sites.yaml"


def parse_sites(texts: tuple[str, ...]) -> dict[str, str]:
    """Return the URL of each site of texts such as `hohhot=https://10.0.0.1:8443`.

    Raises:
        UsageError: One is none, or a name is there twice.
    """
    sites: dict[str, str] = {}
    for text in texts:
        name, found, url = text.partition("=")
        if not found or not NAME.fullmatch(name) or name == AUTHORITY:
            raise UsageError(f"asked for NAME=https://HOST:PORT, found {text!r:.80}")
        if not _is_address(url):
            raise UsageError(f"{name}: asked for https://HOST:PORT, found {url!r:.80}")
        if name in sites:
            raise UsageError(f"asked for each site once, found {name} twice")
        sites[name] = url.rstrip("/")
    if len(sites) < 2:
        raise UsageError(f"asked for two sites or more, found {len(sites)}")
    return sites


def init_sites(folder: Path, sites: Mapping[str, str], now_s: float) -> list[Path]:
    """Write a new folder for some sites; return the folder of each.

    Args:
        folder: A folder that does not exist or is empty.
        sites: URL of each site.
        now_s: Clock of this host, s since the Unix epoch.

    Raises:
        DiskFullError: No space is left.
        UsageError: The folder is not empty, or cannot be written.
    """
    with disk_errors(folder):
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder}: asked for a new folder, found one that is not empty")
        for name in (AUTHORITY, *sites):
            (folder / name).mkdir(parents=True, mode=0o700)
    authority = new_authority("Steppe sites", now_s)
    write_credential(folder / AUTHORITY / TRUSTED, authority)
    keys = {name: PrivateKey.new(name) for name in sites}
    for name in sites:
        _write_site(folder / name, authority, name, now_s)
        keys[name].write(folder / name / TOKENS)
        others = [
            {"name": other, "url": url, "token_keys": [keys[other].public.text]}
            for other, url in sites.items()
            if other != name
        ]
        stub = {
            "sites": {
                "name": name,
                "certificate": CERTIFICATE,
                "key": CERTIFICATE,
                "authority": TRUSTED,
                "token_key": TOKENS,
                "peers": others,
            }
        }
        with disk_errors(folder / name / STUB):
            (folder / name / STUB).write_text(yaml.safe_dump(stub, sort_keys=False))
    return [folder / name for name in sites]


def renew_sites(folder: Path, now_s: float) -> list[str]:
    """Renew the certificates of a folder that are due; return whose were.

    Raises:
        DiskFullError: No space is left.
        UsageError: The folder is none of `init_sites`, or cannot be written.
    """
    authority = read_credential(folder / AUTHORITY / TRUSTED)
    with disk_errors(folder):
        names = sorted(path.parent.name for path in folder.glob(f"*/{STUB}"))
    return [name for name in names if renew(folder / name / CERTIFICATE, authority, name, now_s)]


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    is_bare = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
    return parts.scheme == "https" and bool(parts.hostname) and port != 0 and is_bare


def _write_site(folder: Path, authority: Credential, name: str, now_s: float) -> None:
    write_credential(folder / CERTIFICATE, issue(authority, name, now_s))
    with disk_errors(folder / TRUSTED):
        (folder / TRUSTED).write_bytes(authority.certificate)
