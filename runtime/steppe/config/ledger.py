"""The ledger of a run: receipts, tariffs and accounts, and where they are kept."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from steppe.config.section import Count, FilePath, Positive, Section
from steppe.config.shipped import shipped_config
from steppe.errors import ConfigError


def _site(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._/-]{1,100}", name):
        raise ValueError("asked for at most 100 of A-Z a-z 0-9 ._/-")
    return name


def _http(url: str) -> str:
    if not re.fullmatch(r"https?://\S+", url):
        raise ValueError("asked for a URL that begins with http:// or https://")
    return url


Url = Annotated[str, AfterValidator(_http)]
"""Address of an HTTP server."""


class WitnessSection(Section):
    """A witness: it signs the heads of the log, and only those of one history."""

    url: Url
    """Where it listens; `/add-checkpoint` is added (C2SP tlog-witness)."""
    key: str
    """Its public key, as `steppe ledger keys new FILE NAME --witness` prints it."""


class SinkSection(Section):
    """A server that gets the event of each receipt once: CloudEvents, such as OpenMeter takes."""

    url: Url
    """Where events are sent, such as `https://meter.example.org/api/v1/events`."""
    token_file: FilePath | None = None
    """A file with the token that is sent as `Authorization: Bearer`; relative to this file."""
    batch: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Most events of one call."""
    retry_s: Positive = 30.0
    """Longest wait before a call that failed is made again, s."""


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,56}", text):
        raise ValueError("asked for at most 56 of A-Z a-z 0-9 ._-")
    return text


class GreenSection(Section):
    """What is green of each hour: generation of the site and certificates, matched to its load."""

    zone: Annotated[str, AfterValidator(_name)] | None = None
    """Grid zone of the site: certificates of this zone may be used. One of its own if absent, in
    which only what the site itself generates counts."""
    grid_mix: Annotated[
        dict[Annotated[str, AfterValidator(_name)], Annotated[int, Field(ge=0, le=10**9)]],
        Field(default_factory=dict),
    ]
    """Weight of each source in the power of the grid, in any unit, such as `{coal: 60, wind: 25,
    hydro: 15}`. It is shown and never counts as green: that belongs to those who buy the
    certificates. Absent: unknown."""


class LedgerSection(Section):
    """The ledger: a receipt for each request, in a signed log. Without this section there is none.

    It is a process beside the gateway. While it does not answer, what was counted waits for it.
    """

    folder: FilePath | None = None
    """Folder of the log, of its key and of the accounts; relative to this file. It is made if it is
    missing. A run that starts again with it goes on with its log. If absent: `ledger` in the folder
    of the record; without a record there is no ledger."""
    site: Annotated[str, AfterValidator(_site)] = "steppe"
    """Name of the site in receipts and periods, and of the log if its key is made here. With a
    section `sites` it is `sites.name`."""
    store: str | None = None
    """The database of accounts and entries: an SQLite file (relative to this file), or a URL of
    SQLAlchemy such as `postgresql+psycopg://steppe@db/steppe` (extra `postgres`). `ledger.db` in
    the folder if absent."""
    key: FilePath | None = None
    """The private key that signs the log (`steppe ledger keys new`), relative to this file. `key`
    in the folder if absent; it is made if it is missing there."""
    tariffs: Annotated[tuple[FilePath, ...], Field(strict=False)] = ()
    """Files of tariffs, relative to this file. The first one in which a tenant has an account with
    enough holds for a request: those in tokens, then in energy, then in money, each in this order.
    None: receipts have no price, and nothing is held."""
    accounts: Literal["optional", "required"] = "optional"
    """What holds for a tenant without an account: `optional`: its requests are priced, and nothing
    is held; `required`: they get a 402."""
    hold_output_tokens: Count = 4096
    """Output tokens that are held for a request that names no `max_tokens`."""
    hold_s: Positive = 3600.0
    """A hold is given back this long after it was made, s, if its request has not been booked."""
    witnesses: Annotated[tuple[WitnessSection, ...], Field(strict=False)] = ()
    """Witnesses that are asked to sign each head of the log."""
    green: GreenSection = GreenSection(grid_mix={})
    """What is green of each hour."""
    sink: SinkSection | None = None
    """Where the event of each receipt is sent; absent, nowhere."""

    @field_validator("tariffs")
    @classmethod
    def _each_once(cls, tariffs: tuple[Path, ...]) -> tuple[Path, ...]:
        twice = sorted({str(path) for path in tariffs if tariffs.count(path) > 1})
        if twice:
            raise ValueError(f"asked for each file once, found {', '.join(twice)} twice")
        return tariffs

    def resolved(self, folder: Path) -> LedgerSection:
        """Return the section with its paths relative to a folder."""
        store, sink = self.store, self.sink
        if store is not None and "://" not in store:
            store = str(folder / store)
        if sink is not None and sink.token_file is not None:
            sink = sink.model_copy(update={"token_file": folder / sink.token_file})
        found = {
            "folder": None if self.folder is None else folder / self.folder,
            "store": store,
            "key": None if self.key is None else folder / self.key,
            "tariffs": tuple(_tariff(folder, path) for path in self.tariffs),
            "sink": sink,
        }
        return self.model_copy(update=found)


def _tariff(folder: Path, path: Path) -> Path:
    """Return a file of a tariff; one that ships with Steppe where the folder has none."""
    if not (folder / path).exists() and path.name == str(path) and not path.suffix:
        with suppress(ConfigError):
            return shipped_config(f"tariffs/{path}.yaml")
    return folder / path
