"""How the ledger service of a run is set up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from steppe.config import LedgerSection

STORE, KEY, LOG, PUBLIC_KEY = "ledger.db", "key", "log", "log.pub"
"""Names in the folder: the database, the private key, the log, and its public key."""


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """How the service is set up.

    Attributes:
        section: The section of the configuration, with whole paths.
        folder: Folder of the log and the store; the configuration may leave it open.
        secret_headers: Headers with the secret of the run: the service answers only calls that have
            them.
        host: Address to listen on.
    """

    section: LedgerSection
    folder: Path
    secret_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    host: str = "127.0.0.1"

    @property
    def store(self) -> str:
        """Place of the database of entries and accounts."""
        return self.section.store or str(self.folder / STORE)

    @property
    def key(self) -> Path:
        """The private key that signs the log."""
        return self.section.key or self.folder / KEY

    @property
    def log(self) -> Path:
        """Folder of the log."""
        return self.folder / LOG

    @property
    def public_key(self) -> Path:
        """The public key of the log, for those that check it."""
        return self.folder / PUBLIC_KEY
