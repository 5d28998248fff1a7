"""What the grid service asks of the fleet's controller, which holds the limits.

`Limits` lives in the controller, so that nothing stands between a limit and the tick. The service
hands over changes, and reads once a second what is in force and what the site draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from steppe.errors import SteppeError
from steppe.frontier.pareto import Frontier
from steppe.grid.events.comply import CannotComply, Complies
from steppe.grid.events.event import GridEvent
from steppe.grid.limits.held import InForce
from steppe.grid.limits.limit import Limit
from steppe.grid.offers.sources import Source


@dataclass(frozen=True, slots=True)
class PutLimit:
    """A limit that a link asks for."""

    limit: Limit


@dataclass(frozen=True, slots=True)
class PutEvent:
    """An event that a link asks for; the controller fills in its baseline."""

    event: GridEvent


@dataclass(frozen=True, slots=True)
class Lift:
    """A limit that is lifted: its default stays.

    Attributes:
        link: Its link.
        name: Its name.
        issued_s: When it was lifted, s since the Unix epoch.
    """

    link: str
    name: str
    issued_s: float


@dataclass(frozen=True, slots=True)
class Cancel:
    """An event that is cancelled: it ramps up from where it is.

    Attributes:
        link: Its link.
        event_id: Its id.
        issued_s: When it was cancelled, s since the Unix epoch.
    """

    link: str
    event_id: str
    issued_s: float


@dataclass(frozen=True, slots=True)
class Heard:
    """A sign of life of a link."""

    link: str


@dataclass(frozen=True, slots=True)
class Repeated:
    """A link has sent all that it asks, such as after a poll of everything."""

    link: str


Change = PutLimit | PutEvent | Lift | Cancel | Heard | Repeated


@dataclass(frozen=True, slots=True)
class EventNow:
    """An event that is held, as it is now.

    Attributes:
        event: The event.
        baseline_w: What the site drew before it, W.
        target_w: What it allows now, W; None before its start and after its end.
        delivered_w: How much less than the baseline the site draws now, W.
        verdict: Whether the site can comply, as far as is known.
    """

    event: GridEvent
    baseline_w: float
    target_w: float | None
    delivered_w: float
    verdict: Complies | CannotComply


@dataclass(frozen=True, slots=True)
class Sample:
    """The draw of the site in one tick.

    Attributes:
        number: Number of the tick; it rises.
        at_s: End of the span, s since the Unix epoch.
        site_w: Mean draw of the site, W.
        span_s: Length of the span, s.
        energy_source: Where the figure comes from.
    """

    number: int
    at_s: float
    site_w: float
    span_s: float
    energy_source: str


@dataclass(frozen=True, slots=True)
class GridView:
    """What the controller has of the grid and the site.

    Attributes:
        at_s: When it was seen, s since the Unix epoch.
        in_force: The limit in force; None if nothing limits the site.
        budget_w: Budget of the site, W; None before the first tick.
        budget_source: What sets the budget.
        draw_w: Draw of the site in the last tick, W; None before the first one.
        energy_source: Where that figure comes from.
        events: The events that are held.
        lost: Names of the links that are lost, or not heard yet.
        samples: Draws since the asked number, the oldest first; the controller keeps the last 900.
        sources: Where flexibility comes from now.
        limits: The limits that are held, also those of lost links.
    """

    at_s: float
    in_force: InForce | None
    budget_w: float | None
    budget_source: str
    draw_w: float | None
    energy_source: str
    events: tuple[EventNow, ...] = ()
    lost: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    sources: tuple[Source, ...] = ()
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetPoints:
    """What the fleet can do.

    Attributes:
        frontier: Operating points of one replica.
        replicas: How many there are.
        mean_output_tokens: Mean output tokens of a request, as far as is known; else 0.
    """

    frontier: Frontier
    replicas: int
    mean_output_tokens: float = 0.0


class FleetLimits(Protocol):
    """The limits of a fleet, in its controller."""

    async def take(self, changes: Sequence[Change]) -> list[str]:
        """Make changes, in their order; return a line for each: empty, or why it is refused.

        A change that is refused does not hinder the others.

        Raises:
            FleetAwayError: The controller does not answer: ask again later.
        """
        ...

    async def view(self, after: int) -> GridView:
        """Return what is known now.

        Args:
            after: Number of the last sample that the caller has; 0 for none.

        Raises:
            FleetAwayError: The controller does not answer: ask again later.
        """
        ...

    async def points(self) -> FleetPoints | None:
        """Return what the fleet can do; None while that is not known, or with several models.

        Raises:
            FleetAwayError: The controller does not answer: ask again later.
        """
        ...


class FleetAwayError(SteppeError):
    """The controller of the fleet does not answer now."""
