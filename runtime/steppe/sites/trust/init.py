"""A folder with all that some sites need to trust each other: for tests, demos and small networks.

DIR/authority/authority.pem    key and certificate of the authority: keep it apart
DIR/NAME/certificate.pem       key and certificate of the site, 24 h
DIR/NAME/authority.pem         certificate of the authority
DIR/NAME/tokens.key            key that signs tokens of its tenants
DIR/NAME/sites.yaml            the section `sites` of a run there, whose paths are of that folder
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
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
REGION = "default"
"""The region of all sites if none is named."""
NO_REGIONS: Mapping[str, str] = {}
_REGION = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PORT = 443
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
        url = url.rstrip("/")
        sites[name] = url if urlsplit(url).port else f"{url}:{_PORT}"
    if len(sites) < 2:
        raise UsageError(f"asked for two sites or more, found {len(sites)}")
    return sites


def parse_regions(texts: tuple[str, ...], sites: Collection[str]) -> dict[str, str]:
    """Return the region of each site of texts such as `hohhot=cn-north`.

    Raises:
        UsageError: One is none, of an unknown site, or a site is left out while others are not.
    """
    regions: dict[str, str] = {}
    for text in texts:
        name, _, region = text.partition("=")
        if not _REGION.fullmatch(region):
            raise UsageError(f"asked for NAME=REGION, found {text!r:.80}")
        if name not in sites:
            raise UsageError(f"asked for the region of {', '.join(sites)}, found {name!r:.80}")
        if name in regions:
            raise UsageError(f"asked for each region once, found that of {name} twice")
        regions[name] = region
    missing = [name for name in sites if name not in regions]
    if regions and missing:
        raise UsageError(f"asked for the region of each site, found none of {', '.join(missing)}")
    return regions


def init_sites(
    folder: Path, sites: Mapping[str, str], now_s: float, regions: Mapping[str, str] = NO_REGIONS
) -> list[Path]:
    """Write a new folder for some sites; return the folder of each.

    Args:
        folder: A folder that does not exist or is empty.
        sites: URL of each site.
        now_s: Clock of this host, s since the Unix epoch.
        regions: Where each site lies in law; one that is left out is in `REGION`.

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
            {
                "name": other,
                "url": url,
                "region": regions.get(other, REGION),
                "token_keys": [keys[other].public.text],
            }
            for other, url in sites.items()
            if other != name
        ]
        stub = {
            "sites": {
                "name": name,
                "region": regions.get(name, REGION),
                "host": _listens_on(sites[name]),
                "port": urlsplit(sites[name]).port,
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


def _listens_on(url: str) -> str:
    """Return the address to listen on: the host of the URL if that is of this machine alone."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "127.0.0.1" if host == "localhost" else "0.0.0.0"
    if address.is_loopback:
        return host
    return "0.0.0.0" if address.version == 4 else "::"


def _write_site(folder: Path, authority: Credential, name: str, now_s: float) -> None:
    write_credential(folder / CERTIFICATE, issue(authority, name, now_s))
    with disk_errors(folder / TRUSTED):
        (folder / TRUSTED).write_bytes(authority.certificate)
