"""Where each request of a phase was served, and on what power, as the records of the sites say.

A request was served on surplus if its site took no bought power from its first token to its last:
its own wind and sun covered all that it drew, requests or not.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from steppe.report.record_folder import read_requests, read_ticks
from steppe.report.records import RequestRecord, TickRecord

OTHER_SITE = "site:"
"""Tenants of other sites have names that begin with it."""
BOUGHT = "grid"
MOST_BOUGHT = 0.01
"""Share of the energy from which on it counts as bought: a tick is no shorter than a second."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A day of the demo.

    Attributes:
        name: What the requests of it may do, see `places.NEAREST` and `places.ANYWHERE`.
        begun_epoch_s: When it began, s since the Unix epoch.
        day_s: Length of its day, s.
        ended_epoch_s: When its last request had ended.
    """

    name: str
    begun_epoch_s: float
    day_s: float
    ended_epoch_s: float


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """The record of a site.

    Attributes:
        name: The site.
        begun_epoch_s: Second 0 of its times, s since the Unix epoch.
        firm_w: Power from the grid that it may use, W.
        ticks: Its ticks.
        requests: The requests that its gateway had.
    """

    name: str
    begun_epoch_s: float
    firm_w: float
    ticks: Sequence[TickRecord]
    requests: Sequence[RequestRecord]

    @classmethod
    def read(cls, name: str, folder: Path, begun_epoch_s: float, firm_w: float) -> Self:
        """Read a record folder.

        Raises:
            UsageError: There is none, or it is damaged.
        """
        return cls(name, begun_epoch_s, firm_w, read_ticks(folder), read_requests(folder))

    def windows(self, from_s: float, to_s: float) -> Sequence[TickRecord]:
        """Return the ticks whose windows lie in a time, at least in part; times of the record."""
        ends_s = [tick.t_s for tick in self.ticks]
        first, last = bisect_right(ends_s, from_s), bisect_left(ends_s, to_s)
        return self.ticks[first : last + 1]


@dataclass(frozen=True, slots=True)
class Served:
    """A request, or a part of one, that a site served.

    Attributes:
        site: Where it was served.
        home: Where it was asked.
        begun_epoch_s: Its first token, s since the Unix epoch.
        ended_epoch_s: Its last token.
        tokens: Its output tokens.
        energy_j: The energy charged to it, J.
        bought_share: Share of the energy of its site in that time which came from the grid.
    """

    site: str
    home: str
    begun_epoch_s: float
    ended_epoch_s: float
    tokens: int
    energy_j: float
    bought_share: float

    @property
    def on_surplus(self) -> bool:
        """Whether its site took nothing from the grid meanwhile."""
        return self.bought_share <= MOST_BOUGHT

    @property
    def is_moved(self) -> bool:
        """Whether another site served it."""
        return self.site != self.home


def served_in(record: SiteRecord, phase: Phase) -> list[Served]:
    """Return what a site itself served in a phase, in the order in which it ended."""
    found = []
    for request in record.requests:
        arrived_epoch_s = record.begun_epoch_s + request.arrival_s
        in_phase = phase.begun_epoch_s <= arrived_epoch_s <= phase.ended_epoch_s
        if in_phase and request.outcome == "completed" and served_here(request):
            found.append(_served(record, request))
    return found


def served_here(request: RequestRecord) -> bool:
    """Return whether the site of a record has served a request of it."""
    return not request.site and request.output_tokens > 0


def home_of(tenant: str, site: str) -> str:
    """Return where a request was asked that a site served, by its tenant there."""
    return tenant.removeprefix(OTHER_SITE) if tenant.startswith(OTHER_SITE) else site


def _served(record: SiteRecord, request: RequestRecord) -> Served:
    first_s = request.arrival_s + (request.ttft_s or 0.0)
    last_s = request.arrival_s + (request.e2e_s or 0.0)
    return Served(
        site=record.name,
        home=home_of(request.tenant, record.name),
        begun_epoch_s=record.begun_epoch_s + first_s,
        ended_epoch_s=record.begun_epoch_s + last_s,
        tokens=request.output_tokens,
        energy_j=request.energy_j or 0.0,
        bought_share=bought_share(record.windows(first_s, last_s)),
    )


def bought_share(ticks: Sequence[TickRecord]) -> float:
    """Return the share of the energy of some ticks that came from the grid; 1 if it is unknown."""
    if not ticks or any(not tick.sources_w for tick in ticks):
        return 1.0
    whole_w = sum(sum(tick.sources_w.values()) for tick in ticks)
    return sum(tick.sources_w.get(BOUGHT, 0.0) for tick in ticks) / whole_w if whole_w else 0.0


@dataclass(frozen=True, slots=True)
class PhaseSums:
    """What the sites did in a phase.

    Attributes:
        served: Requests that were served.
        on_surplus: Those of them that were served on surplus.
        moved: Those that another site served than the one that was asked.
        tokens: Their output tokens.
        energy_j: Energy of all sites, J.
        bought_j: The part of it that came from the grid, J.
        moved_to: The moved requests by the site that served them.
    """

    served: int
    on_surplus: int
    moved: int
    tokens: int
    energy_j: float
    bought_j: float
    moved_to: Mapping[str, int]

    @property
    def surplus_share(self) -> float:
        """Share of the requests that were served on surplus; 0 without any."""
        return self.on_surplus / self.served if self.served else 0.0

    @property
    def moved_share(self) -> float:
        """Share of the requests that another site served; 0 without any."""
        return self.moved / self.served if self.served else 0.0


def sums_of(records: Sequence[SiteRecord], phase: Phase) -> PhaseSums:
    """Return what the sites did in a phase."""
    served = [each for record in records for each in served_in(record, phase)]
    moved = [each for each in served if each.is_moved]
    energy_j = bought_j = 0.0
    for record in records:
        from_s = phase.begun_epoch_s - record.begun_epoch_s
        for tick in record.windows(from_s, phase.ended_epoch_s - record.begun_epoch_s):
            energy_j += tick.energy_j
            bought_j += tick.energy_j * bought_share((tick,))
    return PhaseSums(
        served=len(served),
        on_surplus=sum(each.on_surplus for each in served),
        moved=len(moved),
        tokens=sum(each.tokens for each in served),
        energy_j=energy_j,
        bought_j=bought_j,
        moved_to={
            record.name: sum(each.site == record.name for each in moved) for record in records
        },
    )
