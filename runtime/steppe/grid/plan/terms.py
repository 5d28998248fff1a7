"""What a plan of the markets starts from: the site, the forecasts and the prices.

Prices are money per joule. The unit of money is the caller's; `per_mwh` reads a market's price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steppe.frontier.group import replica_choices
from steppe.frontier.pareto import Frontier
from steppe.power.battery import NO_BATTERY, Battery

QUARTER_S = 900.0
JOULES_PER_MWH = 3.6e9


def per_mwh(price: float) -> float:
    """Return a price per MWh as a price per joule; a price of power per MW and hour likewise."""
    return price / JOULES_PER_MWH


@dataclass(frozen=True, slots=True)
class Edge:
    """Watts of the fleet that yield tokens at a constant rate.

    Attributes:
        draw_w: Watts, W.
        output_tps: Output tokens per second at its end.
    """

    draw_w: float
    output_tps: float

    @property
    def tokens_per_j(self) -> float:
        """Output tokens for each joule."""
        return self.output_tps / self.draw_w


@dataclass(frozen=True, slots=True)
class Site:
    """What does not change within a plan.

    Attributes:
        floor_w: Draw of the fleet without work, W.
        edges: What it yields above the floor, from the most tokens per joule to the fewest.
        import_limit_w: Highest draw from the grid, W.
        firm_token_value: What a token that cannot wait is worth, money.
        later_price: What a joule is worth after the plan's end, money per joule: what is stored
            then saves as much, and the work that is left then costs as much.
        battery: The battery, in watts at the site.
        export_limit_w: Highest feed into the grid, W.
        step_s: Length of a step, s.
        late_penalty: What a deferrable token costs that misses its deadline, beside its value.
    """

    floor_w: float
    edges: tuple[Edge, ...]
    import_limit_w: float
    firm_token_value: float
    later_price: float
    battery: Battery = NO_BATTERY
    export_limit_w: float = 0.0
    step_s: float = QUARTER_S
    late_penalty: float = 0.0

    @property
    def most_w(self) -> float:
        """Highest draw of the fleet, W."""
        return self.floor_w + sum(edge.draw_w for edge in self.edges)

    def draw_of(self, output_tps: float) -> float:
        """Return the least draw that yields so many tokens per second, W; at most the highest."""
        draw_w = self.floor_w
        for edge in self.edges:
            used = min(1.0, max(0.0, output_tps) / edge.output_tps) if edge.output_tps else 0.0
            draw_w += used * edge.draw_w
            output_tps -= used * edge.output_tps
        return draw_w

    def output_of(self, draw_w: float) -> float:
        """Return the most output tokens per second that a draw yields."""
        output_tps, left_w = 0.0, draw_w - self.floor_w
        for edge in self.edges:
            used = min(1.0, max(0.0, left_w) / edge.draw_w)
            output_tps += used * edge.output_tps
            left_w -= used * edge.draw_w
        return output_tps


def edges_of(frontier: Frontier, replicas: int, most: int = 4) -> tuple[float, tuple[Edge, ...]]:
    """Return the floor, W, and the edges of so many equal replicas that may sleep.

    Args:
        frontier: Operating points of one replica.
        replicas: How many.
        most: Most edges; the upper ones are merged.
    """
    choices = replica_choices(frontier, with_sleep=True)
    first, rest = choices.edges[:1], choices.edges[1:]
    parts = np.array_split(np.arange(len(rest)), max(1, min(len(rest), most - 1)))
    merged = [[first[0]], *([rest[i] for i in part] for part in parts if len(part))]
    edges = tuple(
        Edge(replicas * sum(e.draw_w for e in part), replicas * sum(e.output_tps for e in part))
        for part in merged
    )
    return replicas * float(choices.draws_w[0]), edges


@dataclass(frozen=True, slots=True)
class Work:
    """Work that may wait.

    Attributes:
        tokens: Output tokens.
        due_step: Index of the last step in which it may run.
        token_value: What a token is worth that is done in time, money.
        from_step: Index of the step in which it arrives.
    """

    tokens: float
    due_step: int
    token_value: float
    from_step: int = 0


@dataclass(frozen=True, slots=True)
class Reserve:
    """A market for reserve in one direction.

    Attributes:
        price: Paid for each watt and second that is held ready, money per joule, in each step.
        activation_price: Paid for each joule that is called, in each step.
        called_share: Share of the reserve that is called on average.
        hold_s: How long a call may last, s.
        sold_w: What is sold already, W, in each step; empty for nothing.
        open: Whether more can be sold.
    """

    price: Sequence[float]
    activation_price: Sequence[float]
    called_share: float
    hold_s: float
    sold_w: Sequence[float] = ()
    open: bool = True


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected in each step, and the state at the start.

    A plan of the day ahead has no position; an intraday plan has the one that is bought already,
    and the prices at which it can still buy and sell.

    Attributes:
        buy_price: Price of a joule from the grid, fees included.
        sell_price: What a joule fed in or sold back yields; never above `buy_price`.
        renewable_w: Power of wind and sun at the site, W.
        firm_tps: Output tokens per second that cannot wait.
        work: Work that may wait.
        stored_j: Energy in the battery now, J.
        position_w: Bought already, W; below zero where sold; empty for nothing.
        down: Market for a lower draw; None for none.
        up: Market for a higher draw; None for none.
    """

    buy_price: Sequence[float]
    sell_price: Sequence[float]
    renewable_w: Sequence[float]
    firm_tps: Sequence[float]
    work: Sequence[Work] = ()
    stored_j: float = 0.0
    position_w: Sequence[float] = ()
    down: Reserve | None = None
    up: Reserve | None = None

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.buy_price)
