"""The register of certificates: each Wh is matched to one hour, and cancelled once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from steppe.ledger.entries import Kind, Movement, available
from steppe.ledger.green.books import Books, GreenError
from steppe.ledger.green.certificates import (
    Certificate,
    cancel_name,
    cancelled,
    issued,
    match_name,
    match_of,
    matched,
    matched_to,
    sent,
)


class Register:
    """Certificates and the movements of their Wh; it is made again from both."""

    def __init__(
        self,
        certificates: Iterable[Certificate] = (),
        movements: Iterable[Movement] = (),
    ) -> None:
        """Begin with certificates and the movements of before.

        Raises:
            GreenError: They do not go together.
        """
        self._books = Books()
        self._certificates: dict[str, Certificate] = {}
        self._by_hour: dict[int, list[Certificate]] = {}
        self._longer: list[Certificate] = []
        self._matched_wh: dict[tuple[str, int], int] = {}
        self._gec_wh: dict[tuple[str, int], int] = {}
        for certificate in certificates:
            self._keep(certificate)
        for movement in movements:
            self._move([movement])

    @property
    def certificates(self) -> Sequence[Certificate]:
        """All certificates, in the order in which they were taken in."""
        return tuple(self._certificates.values())

    @property
    def movements(self) -> Sequence[Movement]:
        """All movements, in their order."""
        return tuple(self._books.movements)

    def available_wh(self, certificate: str, owner: str) -> int:
        """Return what an owner may still match of a certificate, Wh."""
        return self._books.balance(available(owner), self._known(certificate).unit)

    def matched_wh(self, owner: str, hour: int) -> int:
        """Return what is matched to the load of an owner in an hour, cancelled or not, Wh."""
        return self._matched_wh.get((owner, hour), 0)

    def gec_wh(self, owner: str, hour: int) -> int:
        """Return what of it is matched with GECs, whose Wh may be of another hour, Wh."""
        return self._gec_wh.get((owner, hour), 0)

    def balance_wh(self, account: str, certificate: str) -> int:
        """Return what an account has of a certificate, Wh."""
        return self._books.balance(account, self._known(certificate).unit)

    def issue(self, certificate: Certificate) -> list[Movement]:
        """Take a certificate in, made here or imported; the same one again changes nothing.

        Raises:
            GreenError: Another one has its id.
        """
        self._keep(certificate)
        return self._move([issued(certificate)])

    def send(self, cause: str, certificate: str, giver: str, taker: str, wh: int) -> list[Movement]:
        """Give Wh to another owner, with the id of what caused it.

        Raises:
            GreenError: The giver has not so much that is not matched.
            UsageError: It is a part of a GEC, or nothing.
        """
        return self._move([sent(cause, self._known(certificate), giver, taker, wh)])

    def match(self, owner: str, zone: str, hour: int, load_wh: int) -> list[Movement]:
        """Match certificates to the load of an hour, up to all of it.

        The owner's own generation comes first, then what may be used for the shortest time.

        Raises:
            GreenError: More than this load is matched already.
        """
        room = load_wh - self.matched_wh(owner, hour)
        if room < 0:
            found = f"found {load_wh - room} matched"
            raise GreenError(f"hour {hour} of {owner}: asked to match {load_wh} Wh, {found}")
        movements: list[Movement] = []
        for certificate in self._fitting(owner, zone, hour):
            wh = min(room, self.available_wh(certificate.id, owner))
            if wh:
                movements += self._move([matched_to(certificate, owner, hour, wh)])
                room -= wh
        return movements

    def cancel(self, certificate: str, owner: str) -> list[Movement]:
        """Cancel what an owner has matched of a certificate, for good.

        A GEC is cancelled as a whole: its rest expires.

        Raises:
            GreenError: It is cancelled already, or nothing of it is matched.
        """
        known = self._known(certificate)
        if self._books.has(cancel_name(certificate, owner), Kind.CAPTURE):
            raise GreenError(f"certificate {certificate}: asked to cancel it, found it cancelled")
        used_wh = self._books.balance(matched(owner), known.unit)
        if not used_wh:
            raise GreenError(f"certificate {certificate}: asked to cancel it, found it unused")
        free_wh = self.available_wh(certificate, owner)
        return self._move(cancelled(known, owner, used_wh, free_wh))

    def _fitting(self, owner: str, zone: str, hour: int) -> list[Certificate]:
        near = [*self._by_hour.get(hour, ()), *self._longer]
        fit = [
            each
            for each in near
            if each.fits(zone, hour)
            and not self._books.has(match_name(each.id, owner, hour), Kind.HOLD)
        ]
        return sorted(fit, key=lambda each: (each.producer != owner, each.to_hour, each.id))

    def _known(self, certificate: str) -> Certificate:
        if certificate not in self._certificates:
            raise GreenError(f"certificate {certificate}: asked for it, found none of this id")
        return self._certificates[certificate]

    def _keep(self, certificate: Certificate) -> None:
        if known := self._certificates.get(certificate.id):
            if known != certificate:
                found = f"found another of {known.producer}, {known.wh} Wh"
                raise GreenError(f"certificate {certificate.id}: asked to take it in, {found}")
            return
        if other := self._doubled_by(certificate):
            what = f"{certificate.producer} has {other.form} {other.id} for the same generation"
            raise GreenError(f"certificate {certificate.id}: asked to take it in, {what}")
        self._certificates[certificate.id] = certificate
        if certificate.form == "gec":
            self._longer.append(certificate)
        else:
            self._by_hour.setdefault(certificate.from_hour, []).append(certificate)

    def _doubled_by(self, certificate: Certificate) -> Certificate | None:
        """Return another certificate for generation that this one stands for.

        There may be several granular ones of a plant and hour, but only one that the plant itself
        issues for all that it generated, and never a GEC as well.
        """
        hours = range(certificate.from_hour, certificate.to_hour)
        near = [each for hour in hours for each in self._by_hour.get(hour, ())]
        if certificate.form == "granular":
            near += [each for each in self._longer if each.from_hour <= certificate.from_hour]
        own = (certificate.producer, certificate.generated_by)
        for each in near:
            is_same = (each.producer, each.generated_by) == own and each.to_hour > hours.start
            forms_differ = each.form != certificate.form
            if is_same and (forms_differ or each.is_own != certificate.is_own):
                return each
        return None

    def _move(self, movements: Sequence[Movement]) -> list[Movement]:
        for each in movements:
            self._check_hour(each)
        new = [each for each in movements if self._books.move(each)]
        for each in new:
            if place := match_of(each):
                id_, hour, owner = place
                self._matched_wh[owner, hour] = self.matched_wh(owner, hour) + each.amount
                if self._known(id_).form == "gec":
                    self._gec_wh[owner, hour] = self.gec_wh(owner, hour) + each.amount
        return new

    def _check_hour(self, movement: Movement) -> None:
        if place := match_of(movement):
            id_, hour, _ = place
            known = self._known(id_)
            if not known.from_hour <= hour < known.to_hour:
                found = f"found it for {known.from_hour} to {known.to_hour - 1}"
                raise GreenError(f"certificate {id_}: asked to use it in hour {hour}, {found}")
