"""How the batch service of a run is set up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from steppe.config import BatchSection

STORE = "jobs.db"
"""Name of the database in the folder, if the configuration names no other."""


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How the service is set up.

    Attributes:
        batch: The section of the configuration.
        gateway_url: Where the gateway listens, to which rows are sent.
        secret_headers: Headers with the secret of the run: the service answers only calls that have
            them, and its rows carry them.
        gateway_certificate: The gateway's certificate, PEM; None if it serves plain HTTP.
        host: Address to listen on.
        grace_s: How long rows at the gateway may go on when their job is late or cancelled, or the
            service stops, s.
    """

    batch: BatchSection
    gateway_url: str
    secret_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    gateway_certificate: Path | None = None
    host: str = "127.0.0.1"
    grace_s: float = 5.0

    @property
    def store(self) -> str:
        """Place of the database of jobs."""
        return self.batch.store or str(self.batch.folder / STORE)
