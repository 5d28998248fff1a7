"""How the sites service of a run is set up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from steppe.config import SitesSection
from steppe.sites.own_view import OwnModel
from steppe.sites.settlement.own_ledger import LedgerPlaces


@dataclass(frozen=True, slots=True)
class SitesServiceSettings:
    """How the service is set up.

    Attributes:
        section: The section of the configuration, with whole paths.
        folder: Its folder; the configuration may leave it open.
        run_id: Name of the run.
        gateway_url: Where the gateway of the run listens.
        models: The models of the run, by the name that clients use.
        secret_headers: Headers with the secret of the run: the service answers only calls that have
            them, and its own calls of the gateway carry them.
        gateway_certificate: The gateway's certificate, PEM; None if it serves plain HTTP.
        host: Address of the door for the gateways of the run.
        has_ledger: Whether the run has a ledger.
        ledger: Where it is; None without one. Without a ledger nothing is settled.
    """

    section: SitesSection
    folder: Path
    run_id: str
    gateway_url: str
    models: Mapping[str, OwnModel]
    secret_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    gateway_certificate: Path | None = None
    host: str = "127.0.0.1"
    has_ledger: bool = False
    ledger: LedgerPlaces | None = None
