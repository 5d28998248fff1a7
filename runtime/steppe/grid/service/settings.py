"""How the grid service of a run is set up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from steppe.config import GridSection, RunConfig


@dataclass(frozen=True, slots=True)
class GridSettings:
    """How the service is set up.

    Attributes:
        section: The section of the configuration, with whole paths.
        folder: Folder of the grid; the configuration may leave it open.
        run_id: Name of the run.
        began_s: When the service was set up, s since the Unix epoch.
        secret_headers: Headers with the secret of the run: the service answers only calls that have
            them.
        host: Address to listen on.
        has_ledger: Whether the run has a ledger.
        ledger_store: The database of the ledger, which keeps commitments; empty without a ledger.
        run: The configuration of the run, which the plan of the markets needs.
    """

    section: GridSection
    folder: Path
    run_id: str
    began_s: float
    secret_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    host: str = "127.0.0.1"
    has_ledger: bool = False
    ledger_store: str = field(default="", repr=False)
    run: RunConfig | None = None
