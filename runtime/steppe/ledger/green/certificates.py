"""Certificates of green energy: what one is, and the movements of its Wh.

A granular certificate holds whole Wh of one hour; a GEC, China's green electricity certificate,
holds 1 MWh of a longer time. The Wh of a certificate are a unit of its own, `wh:ID`:

    issue      issued -> available            when it is made or imported
    send       available -> available         of another owner
    match      available -> matched           to the load of an hour in which it may be used
    cancel     matched -> cancelled           once; the rest of a GEC expires with it
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from steppe.errors import SteppeError, UsageError
from steppe.ledger.entries import EXPIRED, ISSUED, Movement, MovementKind, available
from steppe.ledger.green.supply import GREEN, HourSupply
from steppe.ledger.receipt import canonical, read_entry

VERSION = 1
KIND = "certificate"
GEC_WH = 1_000_000
CANCELLED = "cancelled"
"""The account of what was used for good."""
Form = Literal["granular", "gec"]
_NAME = re.compile(r"[A-Za-z0-9._-]{1,56}")
_SITE = re.compile(r"[A-Za-z0-9._-]{1,36}")


class GreenError(SteppeError):
    """Some green energy would be used twice, or more than there is."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A proof that Wh were generated from a green source.

    Attributes:
        id: Its name, unique among all registries.
        form: `granular` or `gec`.
        owner: Its first owner.
        producer: The site or plant that generated it.
        zone: The grid zone within which it can be delivered.
        source: `wind`, `sun`, `battery/wind` and so on.
        wh: What it stands for, Wh; 1 MWh for a GEC.
        from_hour: First hour in which it may be used, hours since the Unix epoch.
        to_hour: First hour in which it may no longer be used; one after it for a granular one.
    """

    id: str
    form: Form
    owner: str
    producer: str
    zone: str
    source: str
    wh: int
    from_hour: int
    to_hour: int

    def __post_init__(self) -> None:
        """Refuse what is no certificate.

        Raises:
            UsageError: A name, the amount or the hours are wrong for its form.
        """
        for name in ("id", "owner", "producer", "zone"):
            if not _NAME.fullmatch(getattr(self, name)):
                found = f"found {getattr(self, name)!r:.70}"
                raise UsageError(f"certificate.{name}: asked for letters, digits, `._-`, {found}")
        hours = self.to_hour - self.from_hour
        if self.form == "granular" and (hours != 1 or self.wh < 1):
            asked = "asked for whole Wh of one hour"
            raise UsageError(f"certificate {self.id}: {asked}, found {self.wh} Wh of {hours} h")
        if self.form == "gec" and (hours < 1 or self.wh != GEC_WH):
            asked = f"asked for {GEC_WH} Wh of at least one hour"
            raise UsageError(f"certificate {self.id}: {asked}, found {self.wh} Wh of {hours} h")

    @property
    def unit(self) -> str:
        """The unit of its Wh."""
        return f"wh:{self.id}"

    @property
    def is_own(self) -> bool:
        """Whether the producer issued it itself, for all that a source gave in an hour."""
        return self.id == own_id(self.producer, self.source, self.from_hour)

    @property
    def generated_by(self) -> str:
        """The source behind a battery: `wind` for `battery/wind`."""
        return self.source.rpartition("/")[2]

    @property
    def entry(self) -> bytes:
        """Its bytes as an entry of the log."""
        return canonical({"kind": KIND, "v": VERSION, **asdict(self)})

    @classmethod
    def read(cls, entry: bytes) -> Certificate:
        """Return the certificate of an entry.

        Raises:
            UsageError: It is none.
        """
        return certificate_of(read_entry(entry, KIND, VERSION))

    def fits(self, zone: str, hour: int) -> bool:
        """Return whether it may be used for load in a zone and hour."""
        return self.zone == zone and self.from_hour <= hour < self.to_hour


def certificate_of(values: Any) -> Certificate:
    """Return the certificate of a mapping, as an entry or a registry's file holds it.

    Raises:
        UsageError: A field is missing, unknown, or wrong.
    """
    names = {f.name: f.type for f in fields(Certificate)}
    if not isinstance(values, dict) or values.keys() != names.keys():
        found = sorted(map(str, values)) if isinstance(values, dict) else values
        raise UsageError(f"certificate: asked for {', '.join(sorted(names))}, found {found!r:.90}")
    for name, kind in names.items():
        if type(values[name]) is not (int if kind == "int" else str):
            raise UsageError(f"certificate.{name}: asked for {kind}, found {values[name]!r:.60}")
    if values["form"] not in get_args(Form):
        raise UsageError(f"certificate.form: asked for granular or gec, found {values['form']!r}")
    return Certificate(**values)


def site_name(site: str) -> str:
    """Return the name of a site in certificates and units: at most 36 of `A-Z a-z 0-9 ._-`.

    Of another one it is the beginning, with a part of its SHA-256.
    """
    if _SITE.fullmatch(site):
        return site
    digest = hashlib.sha256(site.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', site)[:27]}-{digest}"


def own_certificates(site: str, zone: str, supply: HourSupply) -> list[Certificate]:
    """Return the granular certificates of a site's own green supply in an hour."""
    hour, made = supply.hour, []
    for source in GREEN:
        if wh := supply.source_wh.get(source, 0):
            id_ = own_id(site, source, hour)
            made.append(Certificate(id_, "granular", site, site, zone, source, wh, hour, hour + 1))
    return made


def own_id(site: str, source: str, hour: int) -> str:
    """Return the id of the certificate of what a site itself generated in an hour."""
    return f"{site}.{source.replace('/', '-')}.{hour}"


def matched(owner: str) -> str:
    """Return the account of an owner's Wh that are matched and not yet cancelled."""
    return f"tenant/{owner}/matched"


def issued(certificate: Certificate) -> Movement:
    """Return the movement of a certificate that is made or imported."""
    own = available(certificate.owner)
    unit = certificate.unit
    return Movement(unit, MovementKind.DEPOSIT, ISSUED, own, unit, certificate.wh)


def sent(cause: str, certificate: Certificate, giver: str, taker: str, wh: int) -> Movement:
    """Return the movement of Wh to another owner.

    Raises:
        UsageError: It is a part of a GEC, which is only sent whole.
    """
    if certificate.form == "gec" and wh != GEC_WH:
        raise UsageError(f"certificate {certificate.id}: asked to send {wh} Wh of a GEC")
    to = available(taker)
    return Movement(cause, MovementKind.TRANSFER, available(giver), to, certificate.unit, wh)


def matched_to(certificate: Certificate, owner: str, hour: int, wh: int) -> Movement:
    """Return the movement of Wh that are matched to the load of an hour."""
    cause, to = match_name(certificate.id, owner, hour), matched(owner)
    return Movement(cause, MovementKind.HOLD, available(owner), to, certificate.unit, wh)


def cancelled(certificate: Certificate, owner: str, used_wh: int, free_wh: int) -> list[Movement]:
    """Return the movements of a cancellation; what is free of a GEC expires with it.

    Args:
        certificate: The certificate.
        owner: Its owner.
        used_wh: What is matched, above 0, Wh.
        free_wh: What is not matched, Wh.
    """
    cause, unit = cancel_name(certificate.id, owner), certificate.unit
    moved = [Movement(cause, MovementKind.CAPTURE, matched(owner), CANCELLED, unit, used_wh)]
    if certificate.form == "gec" and free_wh:
        moved.append(Movement(cause, MovementKind.EXPIRE, available(owner), EXPIRED, unit, free_wh))
    return moved


def match_name(certificate: str, owner: str, hour: int) -> str:
    """Return the cause of a match: a certificate is matched to an owner's hour at most once."""
    return f"wh:{certificate}@{hour}:{owner}"


def cancel_name(certificate: str, owner: str) -> str:
    """Return the cause of a cancellation: an owner cancels a certificate at most once."""
    return f"wh:{certificate}:{owner}"
