"""From prices and forecasts to a plan of steps in calendar time, and to limits of the site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from steppe.grid.limits.limit import Step
from steppe.grid.plan.result import MarketPlan
from steppe.grid.plan.series import Series, Times
from steppe.grid.plan.solve import plan_markets
from steppe.grid.plan.terms import Outlook, Reserve, Site, Work

Forecast = Callable[[Times], Sequence[float]]
"""Returns what is expected in each step."""


@dataclass(frozen=True, slots=True)
class WorkForecast:
    """Work that can wait, as it usually comes.

    Attributes:
        tokens_per_s: Output tokens per second that arrive in each step.
        patience_s: How long they may wait, s.
        token_value: What one is worth, money.
        early_s: How long before it is due the plan ends work, s: a call, or more traffic, may
            delay it.
    """

    tokens_per_s: Forecast
    patience_s: float
    token_value: float
    early_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class ReserveTerms:
    """A market for reserve downwards.

    Attributes:
        price: Paid for each watt and second that is held ready, money per joule.
        called_share: Share of the time in which it is called.
        hold_s: How long a call may last, s.
    """

    price: float
    called_share: float
    hold_s: float


@dataclass(frozen=True, slots=True)
class Planner:
    """What a plan starts from.

    Attributes:
        site: The site.
        prices: Prices, money per joule.
        renewable_w: Forecast of wind and sun at the site, W.
        firm_tps: Forecast of output tokens per second that cannot wait.
        work: Work that can wait; None without any.
        reserve: Market for reserve downwards; None without one.
        intraday_spread: How much worse than day ahead each direction is intraday, money per joule.
        headroom_share: By how much more than expected the tokens that cannot wait may be before
            the limit binds them, share of the full output.
    """

    site: Site
    prices: Series
    renewable_w: Forecast
    firm_tps: Forecast
    work: WorkForecast | None = None
    reserve: ReserveTerms | None = None
    intraday_spread: float = 0.0
    headroom_share: float = 0.25

    def plan(self, times: Times, state: PlanStart) -> DatedPlan:
        """Return the plan of some steps.

        Raises:
            InfeasibleError: No plan keeps within the limits of the connection.
        """
        outlook, missing = self.outlook(times, state)
        return DatedPlan(
            times=times,
            plan=plan_markets(self.site, outlook),
            outlook=outlook,
            prices_missing=missing,
            position=state.position,
        )

    def outlook(self, times: Times, state: PlanStart) -> tuple[Outlook, int]:
        """Return what is expected, and for how many steps there is no price."""
        price, missing = self.prices.expected(times)
        position = state.position.means(times) if state.position is not None else ()
        spread = [0.0 if bought is None else self.intraday_spread for bought in position]
        spread = spread or [0.0] * times.steps
        outlook = Outlook(
            buy_price=[each + more for each, more in zip(price, spread, strict=True)],
            sell_price=[each - less for each, less in zip(price, spread, strict=True)],
            renewable_w=list(self.renewable_w(times)),
            firm_tps=list(self.firm_tps(times)),
            work=(*state.waiting(times, self.work), *self._coming(times)),
            stored_j=state.stored_j,
            position_w=[each or 0.0 for each in position],
            down=self._reserve(price),
        )
        return outlook, missing

    def limits(self, plan: DatedPlan, times: Times | None = None) -> tuple[Step, ...]:
        """Return the limits of the site: what is planned, and headroom for what cannot wait.

        A limit that equals the one before is left out.

        Args:
            plan: The plan.
            times: Some of its steps; all by default.
        """
        found: list[Step] = []
        more_tps = self.headroom_share * self.site.output_of(self.site.most_w)
        for at_s, draw_w, firm_tps in plan.draws(times or plan.times):
            watts = round(max(draw_w, self.site.draw_of(firm_tps + more_tps)), 1)
            if not found or found[-1].watts != watts:
                found.append(Step(at_s, watts))
        return tuple(found)

    def _reserve(self, price: Sequence[float]) -> Reserve | None:
        terms = self.reserve
        if terms is None:
            return None
        return Reserve([terms.price] * len(price), price, terms.called_share, terms.hold_s)

    def _coming(self, times: Times) -> tuple[Work, ...]:
        if self.work is None:
            return ()
        waits = max(0, round((self.work.patience_s - self.work.early_s) / times.step_s))
        value = self.work.token_value
        rates = self.work.tokens_per_s(times)
        return tuple(
            Work(rate * times.step_s, step + waits, value, step)
            for step, rate in enumerate(rates)
            if rate > 0.0
        )


@dataclass(frozen=True, slots=True)
class PlanStart:
    """The state of a site at the start of a plan.

    Attributes:
        stored_j: Energy in its battery, J.
        position: Bought already, W, below zero where sold; None for nothing.
        waiting_tokens: Work that waits, and when it is due, s since the Unix epoch.
    """

    stored_j: float = 0.0
    position: Series | None = None
    waiting_tokens: tuple[tuple[float, float], ...] = field(default=())

    def waiting(self, times: Times, work: WorkForecast | None) -> tuple[Work, ...]:
        """Return the work that waits."""
        if work is None:
            return ()
        return tuple(
            Work(
                tokens,
                max(0, int((due_s - work.early_s - times.from_s) // times.step_s)),
                work.token_value,
            )
            for tokens, due_s in self.waiting_tokens
            if tokens > 0.0
        )


@dataclass(frozen=True, slots=True)
class DatedPlan:
    """A plan in calendar time.

    Attributes:
        times: Its steps.
        plan: What to do in each.
        outlook: What was expected.
        prices_missing: Steps for which there was no price: that of an earlier day stands there.
        position: What was bought before; None for nothing.
    """

    times: Times
    plan: MarketPlan
    outlook: Outlook
    prices_missing: int
    position: Series | None = None

    def bought(self, times: Times) -> Series:
        """Return what the site has bought, with this plan, in some of its steps, W."""
        first = self._first(times)
        values = self.plan.grid_w[first : first + times.steps]
        return Series(tuple(times), tuple(values), times.ends_s)

    def draws(self, times: Times) -> tuple[tuple[float, float, float], ...]:
        """Return begin, s, draw, W, and firm output tokens per second of some of its steps."""
        here = slice(self._first(times), self._first(times) + times.steps)
        draws_w, firm_tps = self.plan.draw_w[here], self.outlook.firm_tps[here]
        return tuple(zip(times, draws_w, firm_tps, strict=True))

    def _first(self, times: Times) -> int:
        return round((times.from_s - self.times.from_s) / self.times.step_s)
