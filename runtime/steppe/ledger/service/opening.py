"""What the service opens when it starts: its key, its log, and the tariffs of the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steppe.config import LedgerSection
from steppe.config.yaml_file import read_mapping
from steppe.disk import disk_errors
from steppe.errors import UsageError
from steppe.ledger.log.log import Log, LogReader
from steppe.ledger.service.settings import LedgerSettings
from steppe.ledger.signing import PrivateKey
from steppe.ledger.store.green import GreenTerms, keep_terms
from steppe.ledger.store.ledger_store import ConflictError, LedgerStore, LogEntry
from steppe.ledger.tariff import KIND as TARIFF
from steppe.ledger.tariff import Tariff, tariff_of

NEXT_KEY = ".next"
"""End of the name of the file of the key that comes next, beside the present one."""


def open_log(settings: LedgerSettings, keys: Sequence[PrivateKey]) -> Log:
    """Return the log that keys sign; write the public ones for those that check it.

    Raises:
        ProofError: The tiles are not those of the checkpoint, or it is that of another log.
        SignatureError: None of the keys has signed the last checkpoint.
        UsageError: A file is missing or damaged.
    """
    settings.log.mkdir(parents=True, exist_ok=True)
    with disk_errors(settings.public_key):
        settings.public_key.write_text("".join(f"{key.public.text}\n" for key in keys))
    return Log(settings.log, keys[0].name, keys)


def check_same(store: LedgerStore, log: Log) -> None:
    """Check that a log was made from a store.

    Raises:
        UsageError: It has more entries, or another last one: the store is not that of the log.
    """
    size = log.head.size
    entries = store.entries(size - 1, 1) if size else []
    if size and entries != [log.entry(size - 1)]:
        found = f"found {store.size()} of a store that did not make them"
        raise UsageError(f"ledger.store: asked for the {size} entries of the log, {found}")


def open_reader(settings: LedgerSettings, keys: Sequence[PrivateKey]) -> LogReader:
    """Return a reader of the log beside its writer."""
    return LogReader(settings.log, keys[0].name, [key.public for key in keys])


def open_keys(settings: LedgerSettings) -> list[PrivateKey]:
    """Return the keys that sign the log: one, and the next one while keys change.

    The key is made if the configuration names none.

    Raises:
        UsageError: One cannot be read or made, they have different names, or the log has entries
            and there is no key.
    """
    path = settings.key
    if settings.section.key is None and not path.exists():
        if (settings.log / "checkpoint").exists():
            raise UsageError(f"ledger.key: asked for {path}, which signs the log, found none")
        PrivateKey.new(settings.section.site).write(path)
    keys, coming = [PrivateKey.read(path)], path.with_name(path.name + NEXT_KEY)
    if coming.exists():
        keys.append(PrivateKey.read(coming))
        if keys[1].name != keys[0].name:
            found = f"asked for a key of the log {keys[0].name}, found {keys[1].name}"
            raise UsageError(f"ledger.key: {coming}: {found}")
    return keys


def read_tariffs(paths: Sequence[Path]) -> list[Tariff]:
    """Return the tariffs of files, in their order.

    Raises:
        UsageError: A file cannot be read or holds no tariff, or two have one id.
    """
    tariffs: dict[str, Tariff] = {}
    for path in paths:
        try:
            tariff = tariff_of(read_mapping(path))
        except UsageError as error:
            raise UsageError(f"ledger.tariffs: {path}: {error}") from error
        if tariff.id in tariffs:
            raise UsageError(f"ledger.tariffs: {path}: asked for a new id, found {tariff.id} twice")
        tariffs[tariff.id] = tariff
    return list(tariffs.values())


def keep_green_terms(store: LedgerStore, section: LedgerSection) -> None:
    """Write what the configuration says of the site's energy, for the hours that close."""
    green = section.green
    with store.transaction() as transaction:
        terms = GreenTerms(green.zone or "", dict(green.grid_mix))
        keep_terms(transaction, section.site, terms)


def log_tariffs(store: LedgerStore, tariffs: Sequence[Tariff], now_us: int) -> dict[str, Tariff]:
    """Write tariffs to the store; return all that it ever had, by id.

    Raises:
        UsageError: One of them was logged with another content.
    """
    entries = [LogEntry(TARIFF, each.id, "", now_us, each.entry) for each in tariffs]
    try:
        store.add(entries)
    except ConflictError as error:
        found = "found it in the log with other prices: give the new prices a new id"
        raise UsageError(f"ledger.tariffs: asked for {error}; {found}") from error
    return {each.id: each for each in map(Tariff.read, store.of_kind(TARIFF))}
