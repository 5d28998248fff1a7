"""A plan as rows, one for each step, and as totals: what a person or a program reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import tzinfo
from typing import Any

from steppe.grid.limits.limit import Step
from steppe.grid.plan.bids import BidStep
from steppe.grid.plan.day import local
from steppe.grid.plan.planner import DatedPlan
from steppe.grid.plan.terms import JOULES_PER_MWH


@dataclass(frozen=True, slots=True)
class Row:
    """One step of a plan.

    Attributes:
        begins: When it begins, in the time zone of the market.
        price: Price of a MWh, money.
        grid_w: Bought, W; below zero where sold.
        renewable_w: Wind and sun that are used, W.
        battery_w: What the battery gives, W; below zero while it charges.
        stored_j: Energy in it at the end of the step, J.
        draw_w: Draw of the site, W.
        limit_w: Limit of the site, W.
        firm_tps: Output tokens per second that cannot wait.
        deferred_tps: Output tokens per second of work that can wait.
        shed_tps: Output tokens per second that no power is left for.
        late_tokens: Tokens that are late in the step, or given up.
        down_w: By how much the draw can fall in reserve, W.
    """

    begins: str
    price: float
    grid_w: float
    renewable_w: float
    battery_w: float
    stored_j: float
    draw_w: float
    limit_w: float
    firm_tps: float
    deferred_tps: float
    shed_tps: float
    late_tokens: float
    down_w: float


@dataclass(frozen=True, slots=True)
class PlanTotals:
    """A plan in a few numbers.

    Attributes:
        energy_j: Bought, J.
        cost: Paid for it, money; below zero it is received.
        renewable_j: Wind and sun that are used, J.
        draw_j: Drawn, J.
        firm_tokens: Output tokens that cannot wait.
        deferred_tokens: Output tokens of work that can wait.
        late_tokens: Tokens that are late, or given up.
        shed_tokens: Tokens that no power is left for.
        mean_price: Mean price of a MWh in all steps, money.
        prices_missing: Steps for which there was no price.
    """

    energy_j: float
    cost: float
    renewable_j: float
    draw_j: float
    firm_tokens: float
    deferred_tokens: float
    late_tokens: float
    shed_tokens: float
    mean_price: float
    prices_missing: int

    @property
    def paid_price(self) -> float | None:
        """Mean price of a MWh that is bought, money; None where nothing is."""
        return self.cost / self.energy_j * JOULES_PER_MWH if self.energy_j > 0.0 else None


def rows_of(dated: DatedPlan, limits: Sequence[Step], zone: tzinfo, steps: int) -> tuple[Row, ...]:
    """Return a row for each of the first steps of a plan.

    Args:
        dated: The plan.
        limits: Its limits.
        zone: Time zone of the market.
        steps: How many steps.
    """
    plan, outlook = dated.plan, dated.outlook
    found: list[Row] = []
    limit_w = 0.0
    by_time = {step.from_s: step.watts for step in limits}
    for at, at_s in zip(range(steps), dated.times, strict=False):
        limit_w = by_time.get(at_s, limit_w)
        found.append(
            Row(
                begins=local(at_s, zone).isoformat(),
                price=outlook.buy_price[at] * JOULES_PER_MWH,
                grid_w=plan.grid_w[at],
                renewable_w=outlook.renewable_w[at] - plan.spilled_w[at],
                battery_w=plan.discharge_w[at] - plan.charge_w[at],
                stored_j=plan.stored_j[at],
                draw_w=plan.draw_w[at],
                limit_w=limit_w,
                firm_tps=outlook.firm_tps[at],
                deferred_tps=plan.deferred_tps[at],
                shed_tps=plan.shed_tps[at],
                late_tokens=plan.late_tokens[at],
                down_w=plan.down_w[at],
            )
        )
    return tuple(found)


def totals_of(rows: Sequence[Row], step_s: float, prices_missing: int) -> PlanTotals:
    """Return the totals of rows.

    Args:
        rows: The rows.
        step_s: Length of a step, s.
        prices_missing: Steps for which there was no price.
    """
    return PlanTotals(
        energy_j=step_s * sum(row.grid_w for row in rows),
        cost=step_s * sum(row.grid_w * row.price for row in rows) / JOULES_PER_MWH,
        renewable_j=step_s * sum(row.renewable_w for row in rows),
        draw_j=step_s * sum(row.draw_w for row in rows),
        firm_tokens=step_s * sum(row.firm_tps for row in rows),
        deferred_tokens=step_s * sum(row.deferred_tps for row in rows),
        late_tokens=sum(row.late_tokens for row in rows),
        shed_tokens=step_s * sum(row.shed_tps for row in rows),
        mean_price=sum(row.price for row in rows) / len(rows),
        prices_missing=prices_missing,
    )


def row_document(row: Row) -> dict[str, Any]:
    """Return a row as JSON values, rounded to what a meter shows."""
    return {
        name: value if isinstance(value, str) else round(value, 4 if name == "price" else 1)
        for name, value in asdict(row).items()
    }


def bid_document(curve: Sequence[BidStep]) -> list[dict[str, float]]:
    """Return a bid as JSON values: up to each price, money per MWh, so many watts are bought."""
    return [
        {"price": round(step.price * JOULES_PER_MWH, 4), "watts": round(step.watts, 1)}
        for step in curve
    ]
