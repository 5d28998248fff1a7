"""What a site shows others of its meters: the book of an hour and its supply, signed and proven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from steppe.errors import UsageError
from steppe.ledger.green.match import KIND as MATCH
from steppe.ledger.log.checkpoint import Proof, ProofError
from steppe.ledger.periods.period import KIND as PERIOD
from steppe.ledger.signing import PublicKey, SignatureError
from steppe.sites.beats.fields import Fields, SiteMessageError
from steppe.sites.settlement.answer import BadAnswerError, keys_of
from steppe.sites.settlement.own_ledger import OwnLedger
from steppe.sites.trust.claims import MeteredHour, RecordError, metered_hour

MOST_BYTES = 1 << 18
"""Longest answer, bytes: a period and a match with their proofs."""
_BOUNDARIES = ("gpu", "node", "site")
_CHARS = 1 << 16


@dataclass(frozen=True, slots=True)
class MeterRecords:
    """Entries of the log of a site about an hour.

    Attributes:
        log: Name of the log.
        keys: Its public keys, a line each.
        entries: The period of the hour, then the first match of it if there is one; with proofs.
    """

    log: str
    keys: str
    entries: tuple[tuple[bytes, Proof], ...]


def records_of_hour(ledger: OwnLedger, site: str, hour: int) -> MeterRecords | None:
    """Return what the log of this site has of an hour; None before it is closed and published."""
    log = ledger.log()
    period = next(
        (
            found
            for boundary in _BOUNDARIES
            if (found := ledger.entry(PERIOD, f"{site}/{boundary}/{hour}"))
        ),
        None,
    )
    if period is None or period[0] >= log.size:
        return None
    entries = [period]
    match = ledger.entry(MATCH, f"{site}/{hour}/0")
    if match is not None and match[0] < log.size:
        entries.append(match)
    proven = [(entry, log.reader.proof(place, log.note)) for place, entry in entries]
    return MeterRecords(log.name, log.keys, tuple(proven))


def write_records(records: MeterRecords) -> bytes:
    """Return records as JSON."""
    return orjson.dumps(
        {
            "object": "steppe.sites.meters",
            "log": records.log,
            "keys": records.keys,
            "entries": [
                {"entry": entry.decode(), "proof": proof.text} for entry, proof in records.entries
            ],
        }
    )


def read_records(body: bytes, site: str, keys: Sequence[PublicKey]) -> MeteredHour:
    """Return what signed records of a site say of an hour, after all checks.

    Args:
        body: What the site answered.
        site: The site.
        keys: Keys of its log; those in the answer if none is known.

    Raises:
        BadAnswerError: Something of it does not hold.
    """
    try:
        fields = Fields.of(orjson.loads(body), "meters")
        items = [Fields.of(item, "meters.entries") for item in fields.items("entries", 2)]
        if not items:
            raise BadAnswerError("meters.entries: asked for the period of the hour, found nothing")
        entries = [
            (item.text("entry", _CHARS).encode(), Proof.read(str(item.values.get("proof"))))
            for item in items
        ]
        known = keys or keys_of(str(fields.values.get("keys", "")))
        return metered_hour(entries, site, fields.text("log", 255), known)
    except (
        orjson.JSONDecodeError,
        SiteMessageError,
        ProofError,
        RecordError,
        SignatureError,
        UsageError,
    ) as error:
        raise BadAnswerError(f"meters: {error}") from error
