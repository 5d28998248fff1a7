"""Where the energy of the meters went, over many hours: exact sums in uJ."""

from __future__ import annotations

from dataclasses import dataclass, replace

from steppe.ledger.periods.period import Period


@dataclass(frozen=True, slots=True)
class EnergySums:
    """The sums of hours of a site: meter = all others together.

    Attributes:
        site: The site.
        boundary: What its meters enclose: `gpu`, `node` or `site`.
        closed: Number of hours with a period.
        open: Number of hours that are not closed yet.
        meter_uj: What the meters counted, uJ.
        receipts_uj: Energy of receipts, uJ.
        corrections_uj: The sum of the differences that corrections made, uJ.
        idle_uj: Energy without work, uJ.
        transition_uj: Energy of starts, stops and changes of state, uJ.
        waste_uj: Energy of requests that failed through no fault of their tenant, uJ.
        unclaimed_uj: What no request claims, uJ.
        carried_uj: What requests have taken that had not ended at the end of the last hour, uJ.
    """

    site: str
    boundary: str
    closed: int = 0
    open: int = 0
    meter_uj: int = 0
    receipts_uj: int = 0
    corrections_uj: int = 0
    idle_uj: int = 0
    transition_uj: int = 0
    waste_uj: int = 0
    unclaimed_uj: int = 0
    carried_uj: int = 0

    @property
    def found_uj(self) -> int:
        """The sum of all parts, uJ; it is `meter_uj` if the books hold."""
        used_uj = self.receipts_uj + self.corrections_uj + self.idle_uj + self.transition_uj
        return used_uj + self.waste_uj + self.unclaimed_uj + self.carried_uj

    def plus_period(self, period: Period) -> EnergySums:
        """Return the sums with one more hour that is closed."""
        return replace(
            self,
            closed=self.closed + 1,
            meter_uj=self.meter_uj + period.meter_uj,
            receipts_uj=self.receipts_uj + period.receipts_uj,
            corrections_uj=self.corrections_uj + period.corrections_uj,
            idle_uj=self.idle_uj + period.idle_uj,
            transition_uj=self.transition_uj + period.transition_uj,
            waste_uj=self.waste_uj + period.waste_uj,
            unclaimed_uj=self.unclaimed_uj + period.unclaimed_uj,
        )
