"""What a run and an hour have counted so far: the sums of which a period is made.

The totals of a run only rise. What its meters have counted and nothing has claimed yet is the
energy of its open requests; it is carried from hour to hour. When the run ends, it is unclaimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from steppe.errors import UsageError
from steppe.ledger.booking import BookedTotals, Booking


@dataclass(frozen=True, slots=True)
class RunBooks:
    """What the ledger has taken of a run, uJ.

    Attributes:
        run: Name of the run.
        site: The site.
        boundary: What its energy encloses.
        number: Number of its last booking; 0 before the first.
        digest: SHA-256 of that booking, hexadecimal.
        totals: All that was counted until then.
        requests_uj: Energy of all requests that were booked.
        given_up_uj: Energy that became unclaimed when the run ended.
    """

    run: str
    site: str
    boundary: str
    number: int = 0
    digest: str = ""
    totals: BookedTotals = field(default_factory=BookedTotals)
    requests_uj: int = 0
    given_up_uj: int = 0

    @property
    def open_uj(self) -> int:
        """Energy that open requests have taken, uJ."""
        totals = self.totals
        known_uj = totals.idle_uj + totals.transition_uj + totals.unclaimed_uj
        return sum(totals.meters.values()) - known_uj - self.requests_uj - self.given_up_uj

    def after(self, booking: Booking, requests_uj: int, digest: str) -> RunBooks:
        """Return the books after the next booking.

        Args:
            booking: The booking; a meter that it does not name stays where it was.
            requests_uj: Energy of those of its requests that are new.
            digest: SHA-256 of the booking.

        Raises:
            UsageError: A total falls, or more is claimed than the meters have counted.
        """
        totals = _risen(self.run, self.totals, booking.totals)
        after = replace(
            self,
            number=booking.number,
            digest=digest,
            totals=totals,
            requests_uj=self.requests_uj + requests_uj,
        )
        if after.open_uj < 0:
            metered_uj = sum(totals.meters.values())
            asked = f"asked for at most the {metered_uj} uJ of its meters"
            found = f"found {metered_uj - after.open_uj} uJ claimed"
            raise UsageError(f"booking {booking.number} of run {self.run}: {asked}, {found}")
        return after.ended() if booking.is_last else after

    def ended(self) -> RunBooks:
        """Return the books at the end of the run: what is open is unclaimed."""
        return replace(self, given_up_uj=self.given_up_uj + self.open_uj)


@dataclass(frozen=True, slots=True)
class HourSums:
    """What was counted at a site in an hour so far, uJ.

    Attributes:
        meters: First and last reading of each meter, by `RUN/NAME`.
        idle_uj: Energy without work.
        transition_uj: Energy of starts, stops and changes of state.
        waste_uj: Energy of requests that failed through no fault of their tenant.
        carried_in_uj: Energy of the requests that were open when it began.
        carried_out_uj: Energy of the requests that are open now.
        supply_uj: Energy that was there, by source.
        charged_uj: What the battery took.
        stored_uj: What the battery's gauge shows now.
        site_uj: What the whole site used; 0 if unknown.
    """

    meters: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    idle_uj: int = 0
    transition_uj: int = 0
    waste_uj: int = 0
    carried_in_uj: int = 0
    carried_out_uj: int = 0
    supply_uj: Mapping[str, int] = field(default_factory=dict)
    charged_uj: int = 0
    stored_uj: int = 0
    site_uj: int = 0

    @property
    def meter_uj(self) -> int:
        """Sum of its meters, uJ."""
        return sum(end - start for start, end in self.meters.values())

    def plus(self, before: RunBooks, after: RunBooks, waste_uj: int) -> HourSums:
        """Return the sums with one more booking of a run.

        Args:
            before: The books of the run before it.
            after: The books after it.
            waste_uj: Energy of those of its requests that failed, uJ.
        """
        old, new = before.totals, after.totals
        meters = dict(self.meters)
        for name, end_uj in new.meters.items():
            known = f"{after.run}/{name}"
            start_uj = meters[known][0] if known in meters else old.meters.get(name, 0)
            meters[known] = (start_uj, end_uj)
        supply = dict(self.supply_uj)
        for source, total_uj in new.supply_uj.items():
            more_uj = total_uj - old.supply_uj.get(source, 0)
            supply[source] = supply.get(source, 0) + more_uj
        return replace(
            self,
            meters=meters,
            idle_uj=self.idle_uj + new.idle_uj - old.idle_uj,
            transition_uj=self.transition_uj + new.transition_uj - old.transition_uj,
            waste_uj=self.waste_uj + waste_uj,
            carried_out_uj=self.carried_out_uj + after.open_uj - before.open_uj,
            supply_uj=supply,
            charged_uj=self.charged_uj + new.charged_uj - old.charged_uj,
            stored_uj=new.stored_uj,
            site_uj=self.site_uj + new.site_uj - old.site_uj,
        )


def _risen(run: str, old: BookedTotals, new: BookedTotals) -> BookedTotals:
    """Return the new totals, with the meters of both.

    Raises:
        UsageError: One is below the old one.
    """
    before = {**old.meters, **_named(old)}
    now = {**old.meters, **new.meters, **_named(new)}
    for name, value in before.items():
        if now.get(name, value) < value:
            asked = f"asked for at least {value} uJ as before"
            raise UsageError(f"run {run}: {name}: {asked}, found {now[name]}")
    supply = {**old.supply_uj, **new.supply_uj}
    return replace(new, meters={**old.meters, **new.meters}, supply_uj=supply)


def _named(totals: BookedTotals) -> dict[str, int]:
    supply = {f"supply_uj.{source}": value for source, value in totals.supply_uj.items()}
    names = ("idle_uj", "transition_uj", "unclaimed_uj", "charged_uj", "site_uj")
    return supply | {name: getattr(totals, name) for name in names}
