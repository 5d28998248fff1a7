"""Which site a certificate belongs to: the one name of it that is in the list of sites."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Mapping
from typing import Any

from steppe.errors import SteppeError


class RefusedPeerError(SteppeError):
    """A caller is no site of the list."""


def identity_of(certificate: Mapping[str, Any] | None, sites: Collection[str], now_s: float) -> str:
    """Return the site of a certificate that the TLS layer has checked.

    Args:
        certificate: As `ssl.SSLSocket.getpeercert` returns it.
        sites: The sites that may call.
        now_s: Clock of this host, s since the Unix epoch.

    Raises:
        RefusedPeerError: There is none, it has ended, or it names no site or several.
    """
    if not certificate:
        raise RefusedPeerError("asked for a certificate of a site, found none")
    end = str(certificate.get("notAfter", ""))
    if not end or ssl.cert_time_to_seconds(end) <= now_s:
        raise RefusedPeerError(f"asked for a certificate that is valid, found its end at {end}")
    names = [str(name) for kind, name in certificate.get("subjectAltName", ()) if kind == "DNS"]
    known = sorted({name for name in names if name in sites})
    if len(known) != 1:
        found = ", ".join(names) or "none"
        asked = "asked for a certificate with the name of one site of the list"
        raise RefusedPeerError(f"{asked}, found {found:.120}")
    return known[0]
