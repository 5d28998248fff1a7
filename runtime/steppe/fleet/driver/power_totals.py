"""What flowed at the site since the run began, in whole microjoules, from its ticks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from steppe.config import RunConfig
from steppe.energy.attribution import UJ_PER_J
from steppe.ledger.booking import BookedTotals
from steppe.power.battery import JOULES_PER_WH
from steppe.report.records import TickRecord


@dataclass(slots=True)
class PowerTotals:
    """Sums over ticks; all in seconds of the run, whatever the speed of the traces.

    Attributes:
        boundary: What the meters of the run enclose: `gpu`, `node` or `site`.
        capacity_j: Most energy that the battery stores, J; 0 without one.
        supply_uj: What the site took from each source, uJ.
        charged_uj: What the battery took, at its terminals, uJ.
        stored_uj: What the battery holds, uJ.
        beside_uj: What the site used beside what the meters enclose, uJ.
    """

    boundary: str
    capacity_j: float = 0.0
    supply_uj: dict[str, int] = field(default_factory=dict)
    charged_uj: int = 0
    stored_uj: int = 0
    beside_uj: int = 0
    _until_s: float = 0.0

    @classmethod
    def of(cls, config: RunConfig) -> PowerTotals:
        """Return the totals at the begin of a run."""
        battery, power = config.power.battery, config.power
        capacity_j = 0.0 if battery is None else battery.capacity_wh * JOULES_PER_WH
        return cls(config.site.boundary, capacity_j / power.speedup)

    def add(self, ticks: Iterable[TickRecord]) -> None:
        """Add ticks; one that was added before changes nothing."""
        for tick in ticks:
            if tick.t_s > self._until_s:
                self._add(tick, tick.t_s - self._until_s)
                self._until_s = tick.t_s

    def with_books(self, books: BookedTotals) -> BookedTotals:
        """Return the totals of the books together with these."""
        meters_uj = sum(books.meters.values())
        return BookedTotals(
            meters=books.meters,
            idle_uj=books.idle_uj,
            transition_uj=books.transition_uj,
            unclaimed_uj=books.unclaimed_uj,
            supply_uj=dict(self.supply_uj),
            charged_uj=self.charged_uj,
            stored_uj=self.stored_uj,
            site_uj=meters_uj + self.beside_uj,
        )

    def _add(self, tick: TickRecord, width_s: float) -> None:
        for source, watts in tick.sources_w.items():
            self.supply_uj[source] = self.supply_uj.get(source, 0) + _uj(watts * width_s)
        if tick.battery is not None:
            self.charged_uj += _uj(max(0.0, -tick.battery.power_w) * width_s)
            self.stored_uj = _uj(tick.battery.share * self.capacity_j)
        self.beside_uj += _uj(max(0.0, tick.site_w - self._enclosed_w(tick)) * width_s)

    def _enclosed_w(self, tick: TickRecord) -> float:
        match self.boundary:
            case "gpu":
                return tick.draw_w
            case "node":
                return tick.draw_w + tick.node_rest_w
            case _:
                return tick.site_w


def _uj(energy_j: float) -> int:
    return round(energy_j * UJ_PER_J)
