"""Where the energy of the meters went, over many hours: exact sums in uJ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from steppe.ledger.hours import HourSums, RunBooks
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
            carried_uj=period.carried_out_uj,
        )

    def plus_open(self, hour: HourSums, receipts_uj: int, corrections_uj: int) -> EnergySums:
        """Return the sums with one more hour that is open: what is left of its meters is unclaimed.

        Args:
            hour: What was counted in it so far.
            receipts_uj: Energy of its receipts, uJ.
            corrections_uj: The sum of the differences of its corrections, uJ.
        """
        used_uj = receipts_uj + corrections_uj + hour.idle_uj + hour.transition_uj + hour.waste_uj
        spent_uj = hour.meter_uj + hour.carried_in_uj - hour.carried_out_uj
        return replace(
            self,
            open=self.open + 1,
            meter_uj=self.meter_uj + hour.meter_uj,
            receipts_uj=self.receipts_uj + receipts_uj,
            corrections_uj=self.corrections_uj + corrections_uj,
            idle_uj=self.idle_uj + hour.idle_uj,
            transition_uj=self.transition_uj + hour.transition_uj,
            waste_uj=self.waste_uj + hour.waste_uj,
            unclaimed_uj=self.unclaimed_uj + spent_uj - used_uj,
            carried_uj=hour.carried_out_uj,
        )


def check_runs(sums: EnergySums, runs: Iterable[RunBooks]) -> list[str]:
    """Return what of the sums of all hours is not what the runs have counted in all.

    The runs keep their own totals, so an hour that lost energy, or has some twice, is found.

    Args:
        sums: The sums of all hours of a site, closed and open.
        runs: What the ledger has taken of the runs of that site.
    """
    own = [run for run in runs if (run.site, run.boundary) == (sums.site, sums.boundary)]
    unclaimed_uj = sum(run.totals.unclaimed_uj + run.given_up_uj for run in own)
    asked = {
        "meters": (sum(sum(run.totals.meters.values()) for run in own), sums.meter_uj),
        "idle": (sum(run.totals.idle_uj for run in own), sums.idle_uj),
        "transitions": (sum(run.totals.transition_uj for run in own), sums.transition_uj),
        "receipts and waste": (
            sum(run.requests_uj for run in own),
            sums.receipts_uj + sums.waste_uj,
        ),
        "unclaimed and corrections": (unclaimed_uj, sums.unclaimed_uj + sums.corrections_uj),
        "carried on": (sum(run.open_uj for run in own), sums.carried_uj),
    }
    where = f"energy of {sums.site}, boundary {sums.boundary}"
    return [
        f"{where}: {name}: the runs have counted {counted:,} uJ, the hours {found:,} uJ"
        for name, (counted, found) in asked.items()
        if counted != found
    ]
