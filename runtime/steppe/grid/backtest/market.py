"""A site in the markets: it buys day ahead, trades intraday, runs, and pays for imbalance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from steppe.grid.backtest.terms import MarketTerms
from steppe.grid.backtest.world import Floats, World
from steppe.grid.plan.result import MarketPlan
from steppe.grid.plan.solve import plan_markets
from steppe.grid.plan.terms import Outlook, Reserve, Site, Work


@dataclass(frozen=True, slots=True)
class Way:
    """One way to use the site.

    Attributes:
        name: Its name.
        site: The site, with or without its battery.
        waits: Whether work waits for cheap energy.
        reserve: Whether it sells reserve.
    """

    name: str
    site: Site
    waits: bool
    reserve: bool


@dataclass(slots=True)
class WayState:
    """What a way has paid and received so far, money, and the state of its site.

    Attributes:
        stored_j: Energy in the battery, J.
        queue: Tokens of work that waits, and the last step in which each may run.
        energy: Paid for energy.
        imbalance: Paid for imbalance.
        reserve: Received for reserve.
        late_tokens: Tokens that were late.
        tokens: Tokens of work that could wait and was done.
        missed_j: Energy that was called and not given, J.
    """

    stored_j: float
    queue: list[list[float]] = field(default_factory=list)
    energy: float = 0.0
    imbalance: float = 0.0
    reserve: float = 0.0
    late_tokens: float = 0.0
    tokens: float = 0.0
    missed_j: float = 0.0


@dataclass(slots=True)
class Market:
    """One way in the world: its positions, and what it pays.

    Attributes:
        way: The way.
        world: The world.
        terms: What the market pays and takes.
        books: What it has paid.
        position_w: Bought day ahead, W.
        sold_w: Reserve sold day ahead, W.
        drawn_w: Draw of the fleet, W.
        paid: Paid for energy, imbalance and missed reserve in each step, less what reserve earned.
        traded_until: First step that is not sold day ahead yet.
    """

    way: Way
    world: World
    terms: MarketTerms
    books: WayState
    position_w: Floats
    sold_w: Floats
    drawn_w: Floats
    paid: Floats
    traded_until: int = 0

    @classmethod
    def begun(cls, way: Way, world: World, terms: MarketTerms) -> Market:
        """Return a way at its begin, with a battery that is half full."""
        books = WayState(way.site.battery.capacity_j / 2)
        nothing = np.zeros(world.steps)
        copies = nothing.copy(), nothing.copy(), nothing.copy()
        return cls(way, world, terms, books, nothing, *copies)

    def run(self, days: int, every: int) -> None:
        """Trade and run for so many days; intraday every so many steps."""
        terms = self.terms
        self.day_ahead(0, 0)
        for step in range(0, days * terms.day_steps, every):
            tomorrow = step // terms.day_steps + 1
            if step % terms.day_steps == terms.gate and tomorrow < days:
                self.day_ahead(step, tomorrow)
            plan = plan_markets(self.way.site, self.outlook(step, terms.day_steps))
            for at in range(every):
                self.step(step + at, plan, at)

    def day_ahead(self, now: int, day: int) -> None:
        """Buy for a day, and sell reserve for it."""
        terms, world = self.terms, self.world
        plan = plan_markets(self.way.site, self.outlook(now, 2 * terms.day_steps))
        first = day * terms.day_steps
        for step in range(first, min(first + terms.day_steps, world.steps)):
            self.position_w[step] = plan.grid_w[step - now]
            self.sold_w[step] = plan.down_w[step - now] if self.way.reserve else 0.0
        bought = slice(first, first + terms.day_steps)
        energy = terms.step_s * world.price[bought] * self.position_w[bought]
        held = terms.step_s * terms.reserve_price * self.sold_w[bought]
        self.books.energy += float(energy.sum())
        self.books.reserve += float(held.sum())
        self.paid[bought] += energy - held
        self.traded_until = first + terms.day_steps

    def outlook(self, now: int, look: int) -> Outlook:
        """Return what is expected now, for so many steps."""
        world, terms = self.world, self.terms
        steps = range(now, min(now + look, world.steps))
        known = np.array(steps) < self.traded_until
        price = world.expected_prices(steps, self.traded_until)
        spread = np.where(known, terms.intraday_spread, 0.0)
        firm_tps, work = world.expected_tps(steps), self.expected_work(now, len(steps))
        if not self.way.waits:
            full_tps = self.way.site.output_of(self.way.site.most_w)
            firm_tps, work = firm_tps + as_it_comes(work, firm_tps, full_tps, terms.step_s), ()
        here = slice(steps.start, steps.stop)
        down = Reserve(
            np.where(known, 0.0, terms.reserve_price).tolist(),
            price.tolist(),
            terms.called_share,
            terms.step_s,
            self.sold_w[here].tolist(),
        )
        return Outlook(
            (price + spread).tolist(),
            (price - spread).tolist(),
            world.expected_w(steps).tolist(),
            firm_tps.tolist(),
            work,
            self.books.stored_j,
            self.position_w[here].tolist(),
            down if self.way.reserve else None,
        )

    def expected_work(self, now: int, steps: int) -> tuple[Work, ...]:
        """Return the work that is here, and what usually arrives."""
        terms, traffic = self.terms, self.world.traffic
        value, patience = terms.token_value, terms.patience - terms.early
        here = [
            Work(tokens, max(0, int(due) - now - terms.early), value)
            for tokens, due in self.books.queue
        ]
        here.append(Work(traffic.work[now], patience, value))
        usual = traffic.usual_work[now + 1 : now + steps]
        come = [Work(tokens, at + patience, value, at) for at, tokens in enumerate(usual, 1)]
        return (*here, *(one for one in come if one.tokens))

    def step(self, now: int, plan: MarketPlan, at: int) -> None:
        """Run one step, and pay for it."""
        site, world, books, step_s = self.way.site, self.world, self.books, self.terms.step_s
        if world.traffic.work[now]:
            books.queue.append([world.traffic.work[now], now + self.terms.patience])
        firm_tps = world.traffic.firm_tps[now]
        full_tps = site.output_of(site.most_w)
        waiting = sum(tokens for tokens, _ in books.queue) / step_s
        wanted = plan.deferred_tps[at] if self.way.waits else waiting
        draw_w = site.draw_of(firm_tps + min(wanted, waiting, full_tps - firm_tps))
        called_w = world.called[now] * self.sold_w[now]
        by_work_w = min(called_w, draw_w - site.draw_of(firm_tps))
        draw_w -= by_work_w
        self.serve(site.output_of(draw_w) - firm_tps, now)
        flow_w = plan.charge_w[at] - plan.discharge_w[at] - (called_w - by_work_w)
        moved_w = self.battery(flow_w)
        books.missed_j += max(0.0, moved_w - flow_w) * step_s if called_w else 0.0
        wind_w = world.renewable_w[now] - min(plan.spilled_w[at], world.renewable_w[now])
        self.drawn_w[now] = draw_w
        self.pay(now, draw_w + moved_w - wind_w, plan.traded_w[at], called_w)

    def serve(self, deferred_tps: float, now: int) -> None:
        """Serve work that can wait, the nearest deadline first; what is due now is late."""
        left = max(0.0, deferred_tps * self.terms.step_s)
        self.books.tokens += left
        for one in self.books.queue:
            done = min(left, one[0])
            one[0] -= done
            left -= done
        late = [one for one in self.books.queue if one[1] <= now]
        self.books.late_tokens += sum(one[0] for one in late)
        self.books.queue = [one for one in self.books.queue if one[1] > now and one[0] > 0.0]

    def battery(self, flow_w: float) -> float:
        """Charge, or discharge below zero, as far as it goes; return the flow, W."""
        battery, stored_j, step_s = self.way.site.battery, self.books.stored_j, self.terms.step_s
        if flow_w >= 0.0:
            flow = battery.charge(stored_j, flow_w, step_s)
            self.books.stored_j = flow.stored_j
            return flow.power_w
        flow = battery.discharge(stored_j, -flow_w, step_s)
        self.books.stored_j = flow.stored_j
        return -flow.power_w

    def pay(self, now: int, metered_w: float, traded_w: float, called_w: float) -> None:
        """Pay for what was traded and for imbalance; a call is paid at the price of energy."""
        price, books, terms = float(self.world.price[now]), self.books, self.terms
        side = terms.intraday_spread if traded_w > 0.0 else -terms.intraday_spread
        energy = terms.step_s * (price + side) * traded_w
        over_w = metered_w + called_w - self.position_w[now] - traded_w
        side = terms.imbalance_spread if over_w > 0.0 else -terms.imbalance_spread
        imbalance = terms.step_s * (price + side) * over_w
        called = terms.step_s * price * called_w
        books.energy += energy
        books.imbalance += imbalance
        books.reserve += called
        self.paid[now] += energy + imbalance - called


def as_it_comes(work: Sequence[Work], firm_tps: Floats, full_tps: float, step_s: float) -> Floats:
    """Return the tokens per second of work that does not wait.

    Args:
        work: The work.
        firm_tps: Tokens per second that cannot wait, in each step.
        full_tps: The most tokens per second of the site.
        step_s: Length of a step, s.
    """
    come = np.zeros(len(firm_tps))
    for one in work:
        come[one.from_step] += one.tokens / step_s
    found, waiting = np.zeros(len(firm_tps)), 0.0
    for step, tps in enumerate(come):
        waiting += tps
        found[step] = min(waiting, max(0.0, full_tps - firm_tps[step]))
        waiting -= found[step]
    return found
