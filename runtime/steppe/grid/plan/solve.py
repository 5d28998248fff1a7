"""The plan of the markets: what to buy, store, run and offer in each quarter of an hour.

A linear program over the steps of the outlook:

    balance    floor + watts of each edge that is used + charge = renewable - spilled
               + discharge + position + more - less
    tokens     firm - shed + done of each value = output of each edge that is used
    edges      use of each edge <= use of the edge below it
    store      stored' = stored + charge_eff charge dt - discharge dt / discharge_eff
               + what calls of the reserve put in or take out on average
    backlog    backlog' = backlog + tokens that arrive - done dt - late, for each value
    deadlines  backlog <= tokens that have arrived and are not due
    grid       position + more - less + up <= import limit; and - down >= - export limit
    down       at most the draw beyond what firm work needs, and what the battery can add for a
               whole call
    up         at most the edges that are not used while there is work for them, and what the
               battery can take for a whole call

It maximises the value of the tokens done in time and of reserve, less the price of energy. Calls
count with their average: a called watt costs the tokens of the best edge. What a call upwards
yields in tokens is not counted. A battery that charges and discharges in one step does so in turns.
HiGHS solves it, through `scipy.optimize.linprog`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_array, diags_array

from steppe.control.horizon.linear_rows import Floats, Indices, Rows, Term
from steppe.errors import InfeasibleError, UsageError
from steppe.grid.plan.result import MarketPlan
from steppe.grid.plan.terms import Outlook, Reserve, Site, Work

SOONER_SHARE = 1e-3
"""Share of its value that a token loses by the end: of two equal plans the earlier one is taken."""
MISSED_FACTOR = 20.0
"""Price of reserve that is sold and not held, over the highest price of energy."""
(
    MORE, LESS, CHARGE, DISCHARGE, STORED, SPILLED, SHED,
    DOWN_WORK, DOWN_BATTERY, UP_WORK, UP_BATTERY, MISSED_DOWN, MISSED_UP, EDGE_0,
) = range(14)  # fmt: skip


def plan_markets(site: Site, outlook: Outlook) -> MarketPlan:
    """Return the best plan for what is expected.

    Raises:
        UsageError: Series of the outlook have other lengths, or it could sell dearer than buy.
        InfeasibleError: No plan keeps within the limits of the connection.
    """
    _check(site, outlook)
    program = _Program(site, outlook, _classes(outlook.work))
    return program.plan(_solve(program))


def _check(site: Site, outlook: Outlook) -> None:
    """Raise UsageError for series that do not fit."""
    steps = outlook.steps
    series = {
        "sell_price": outlook.sell_price,
        "renewable_w": outlook.renewable_w,
        "firm_tps": outlook.firm_tps,
        "position_w": outlook.position_w or outlook.buy_price,
    }
    for name, reserve in (("down", outlook.down), ("up", outlook.up)):
        if reserve is not None:
            series[f"{name}.price"] = reserve.price
            series[f"{name}.activation_price"] = reserve.activation_price
            series[f"{name}.sold_w"] = reserve.sold_w or outlook.buy_price
    for name, values in series.items():
        if len(values) != steps:
            raise UsageError(f"asked for {steps} steps of {name}, found {len(values)}")
    if not steps or not site.edges:
        raise UsageError(f"asked for steps and edges, found {steps} and {len(site.edges)}")
    for step in range(steps):
        if outlook.sell_price[step] > outlook.buy_price[step]:
            raise UsageError(
                f"asked for a price to sell of at most {outlook.buy_price[step]} in step {step}, "
                f"found {outlook.sell_price[step]}"
            )


def _classes(work: Sequence[Work]) -> tuple[tuple[Work, ...], ...]:
    """Return the work of each value of a token, from the highest."""
    values = sorted({one.token_value for one in work}, reverse=True)
    return tuple(tuple(one for one in work if one.token_value == value) for value in values)


def _solve(program: _Program) -> Floats:
    """Return the values of the unknowns.

    The solver's tolerances are absolute, so columns, rows and prices are scaled to about 1.
    """
    below, equal, scale = program.below(), program.equal(), program.scale()
    worth = program.worth() * scale
    left_below, right_below = _scaled(below, scale)
    left_equal, right_equal = _scaled(equal, scale)
    least, most = program.least() / scale, program.most() / scale
    found = linprog(
        -worth / max(float(np.abs(worth).max()), 1e-300),
        A_ub=left_below,
        b_ub=right_below,
        A_eq=left_equal,
        b_eq=right_equal,
        bounds=np.stack([least, most], axis=1),
        method="highs",
    )
    if found.x is None:
        raise InfeasibleError(
            "asked for a plan within the limits of the grid connection, found none: "
            f"{found.message}"
        )
    values: Floats = np.maximum(found.x * scale, least * scale)
    return values


def _scaled(rows: Rows, scale: Floats) -> tuple[csr_array, Floats]:
    """Return the left and right sides with scaled columns, the largest coefficient of a row 1."""
    left = csr_array(rows.matrix @ diags_array(scale))
    largest = abs(left).max(axis=1).toarray().ravel()
    largest[largest == 0.0] = 1.0
    return csr_array(diags_array(1 / largest) @ left), rows.right / largest


@dataclass(frozen=True, slots=True)
class _Program:
    """The linear program: one column for each unknown of each step.

    Attributes:
        site: What does not change.
        outlook: What is expected.
        classes: Work by the value of its tokens.
    """

    site: Site
    outlook: Outlook
    classes: tuple[tuple[Work, ...], ...]

    @property
    def steps(self) -> int:
        return self.outlook.steps

    @property
    def count(self) -> int:
        return (EDGE_0 + len(self.site.edges) + 3 * len(self.classes)) * self.steps

    @property
    def position_w(self) -> Floats:
        return np.array(self.outlook.position_w or np.zeros(self.steps), dtype=float)

    @property
    def best_tokens_per_j(self) -> float:
        return max(edge.tokens_per_j for edge in self.site.edges)

    def of_each(self, unknown: int) -> Indices:
        """Return the columns of an unknown, one for each step."""
        return np.arange(self.steps) + unknown * self.steps

    def edges(self, coefficients: Sequence[float]) -> list[Term]:
        """Return how much of each edge is used, times a coefficient."""
        return [(self.of_each(EDGE_0 + n), c) for n, c in enumerate(coefficients)]

    def of_class(self, number: int) -> tuple[Indices, Indices, Indices]:
        """Return the columns of the tokens/s done, those late and the backlog of a class."""
        first = EDGE_0 + len(self.site.edges) + 3 * number
        return self.of_each(first), self.of_each(first + 1), self.of_each(first + 2)

    def tokens(self, number: int, *, due: bool) -> Floats:
        """Return the tokens of a class that arrive in each step, or that are due in it."""
        tokens = np.zeros(self.steps)
        for one in self.classes[number]:
            step = one.due_step if due else one.from_step
            if step < self.steps:
                tokens[max(0, step)] += one.tokens
        return tokens

    def equal(self) -> Rows:
        """Return the equalities: balance, tokens, store and backlog."""
        rows, of = Rows(self.count), self.of_each
        draws = self.edges([edge.draw_w for edge in self.site.edges])
        gives = self.edges([-edge.output_tps for edge in self.site.edges])
        exchange = [(MORE, -1.0), (LESS, 1.0), (CHARGE, 1.0), (DISCHARGE, -1.0), (SPILLED, 1.0)]
        there_w = np.array(self.outlook.renewable_w) + self.position_w - self.site.floor_w
        rows.add([*draws, *((of(n), c) for n, c in exchange)], there_w)
        done: list[Term] = [(self.of_class(n)[0], 1.0) for n in range(len(self.classes))]
        lost = _called(self.outlook.down) * self.best_tokens_per_j
        rows.add(
            [*done, *gives, (of(SHED), -1.0), (of(DOWN_WORK), lost)],
            -np.array(self.outlook.firm_tps),
        )
        self._add_store(rows)
        for number in range(len(self.classes)):
            done_tps, late, backlog = self.of_class(number)
            come = self.tokens(number, due=False)
            left = [(backlog, 1.0), (done_tps, self.site.step_s), (late, 1.0)]
            rows.add([(columns[:1], f) for columns, f in left], come[:1])
            rows.add([*((c[1:], f) for c, f in left), (backlog[:-1], -1.0)], come[1:])
        return rows

    def _add_store(self, rows: Rows) -> None:
        """Add what the battery stores after each step."""
        battery, dt_s, of = self.site.battery, self.site.step_s, self.of_each
        into, out = battery.charge_efficiency * dt_s, dt_s / battery.discharge_efficiency
        moved = [
            (of(CHARGE), -into),
            (of(DISCHARGE), out),
            (of(DOWN_BATTERY), _called(self.outlook.down) * out),
            (of(UP_BATTERY), -_called(self.outlook.up) * into),
        ]
        stored, start_j = of(STORED), min(self.outlook.stored_j, battery.capacity_j)
        rows.add([(stored[:1], 1.0), *((c[:1], f) for c, f in moved)], start_j)
        rows.add([(stored[1:], 1.0), (stored[:-1], -1.0), *((c[1:], f) for c, f in moved)], 0.0)

    def below(self) -> Rows:
        """Return the inequalities: connection, battery and reserve."""
        rows, of, site = Rows(self.count), self.of_each, self.site
        more: list[Term] = [(of(MORE), 1.0), (of(LESS), -1.0)]
        less: list[Term] = [(of(MORE), -1.0), (of(LESS), 1.0)]
        up: list[Term] = [(of(UP_WORK), 1.0), (of(UP_BATTERY), 1.0)]
        down: list[Term] = [(of(DOWN_WORK), 1.0), (of(DOWN_BATTERY), 1.0)]
        rows.add([*more, *up], site.import_limit_w - self.position_w)
        rows.add([*less, *down], site.export_limit_w + self.position_w)
        battery = site.battery
        most_w = max(battery.max_charge_w, 1.0), max(battery.max_discharge_w, 1.0)
        rows.add([(of(CHARGE), 1 / most_w[0]), (of(DISCHARGE), 1 / most_w[1])], 1.0)
        for number in range(1, len(site.edges)):
            rows.add([(of(EDGE_0 + number), 1.0), (of(EDGE_0 + number - 1), -1.0)], 0.0)
        self._add_down(rows)
        self._add_up(rows)
        for reserve, parts, missed in (
            (self.outlook.down, down, MISSED_DOWN),
            (self.outlook.up, up, MISSED_UP),
        ):
            sold_w = _sold_w(reserve, self.steps)
            rows.add([*((c, -1.0) for c, _ in parts), (of(missed), -1.0)], -sold_w)
            if reserve is None or not reserve.open:
                rows.add(parts, sold_w)
        return rows

    def _add_down(self, rows: Rows) -> None:
        """Add by how much the draw can fall."""
        of, site = self.of_each, self.site
        draws = [edge.draw_w for edge in site.edges]
        per_token = max(1 / edge.tokens_per_j for edge in site.edges)
        needed_w = [site.draw_of(tps) - site.floor_w for tps in self.outlook.firm_tps]
        rows.add(
            [(of(DOWN_WORK), 1.0), *self.edges([-w for w in draws]), (of(SHED), -per_token)],
            -np.array(needed_w),
        )
        battery, part = site.battery, of(DOWN_BATTERY)
        rows.add([(part, 1.0), (of(DISCHARGE), 1.0), (of(CHARGE), -1.0)], battery.max_discharge_w)
        needs = _hold_s(self.outlook.down) / battery.discharge_efficiency
        stored = of(STORED)
        rows.add([(part, needs), (stored, -1.0)], 0.0)
        rows.add([(part[1:], needs), (stored[:-1], -1.0)], 0.0)
        rows.add([(part[:1], needs)], min(self.outlook.stored_j, battery.capacity_j))

    def _add_up(self, rows: Rows) -> None:
        """Add by how much the draw can rise."""
        of, site = self.of_each, self.site
        draws = [edge.draw_w for edge in site.edges]
        rows.add([(of(UP_WORK), 1.0), *self.edges(draws)], sum(draws))
        backlogs: list[Term] = [(self.of_class(n)[2], -1.0) for n in range(len(self.classes))]
        needs = _hold_s(self.outlook.up) * self.best_tokens_per_j
        rows.add([(of(UP_WORK), max(needs, 1.0)), *backlogs], 0.0)
        battery, part = site.battery, of(UP_BATTERY)
        rows.add([(part, 1.0), (of(CHARGE), 1.0), (of(DISCHARGE), -1.0)], battery.max_charge_w)
        takes = _hold_s(self.outlook.up) * battery.charge_efficiency
        stored, room_j = of(STORED), battery.capacity_j
        rows.add([(part, takes), (stored, 1.0)], room_j)
        rows.add([(part[1:], takes), (stored[:-1], 1.0)], room_j)
        rows.add([(part[:1], takes)], room_j - min(self.outlook.stored_j, room_j))

    def worth(self) -> Floats:
        """Return what one of each unknown is worth, money."""
        worth, of, dt_s = np.zeros(self.count), self.of_each, self.site.step_s
        worth[of(MORE)] = -dt_s * np.array(self.outlook.buy_price)
        worth[of(LESS)] = dt_s * np.array(self.outlook.sell_price)
        worth[of(SHED)] = -dt_s * self.site.firm_token_value
        highest = float(np.abs(self.outlook.buy_price).max())
        for reserve, parts, missed, sign in (
            (self.outlook.down, (DOWN_WORK, DOWN_BATTERY), MISSED_DOWN, 1.0),
            (self.outlook.up, (UP_WORK, UP_BATTERY), MISSED_UP, -1.0),
        ):
            worth[of(missed)] = -dt_s * MISSED_FACTOR * max(highest, 1e-12)
            if reserve is not None:
                called = sign * reserve.called_share * np.array(reserve.activation_price)
                for part in parts:
                    worth[of(part)] = dt_s * (np.array(reserve.price) + called)
        sooner = np.linspace(1.0, 1.0 - SOONER_SHARE, self.steps)
        later = self.site.later_price / self.best_tokens_per_j
        for number, work in enumerate(self.classes):
            done_tps, late, backlog = self.of_class(number)
            value = work[0].token_value
            worth[done_tps] = dt_s * value * sooner
            worth[late] = -self.site.late_penalty
            worth[backlog[-1]] = max(0.0, value - later) * (1.0 - SOONER_SHARE)
        worth[of(STORED)[-1]] = self.site.later_price * self.site.battery.discharge_efficiency
        return worth

    def least(self) -> Floats:
        """Return the lower bound of each unknown."""
        return np.zeros(self.count)

    def most(self) -> Floats:
        """Return the upper bound of each unknown."""
        most, of, battery = np.full(self.count, np.inf), self.of_each, self.site.battery
        most[of(CHARGE)] = battery.max_charge_w
        most[of(DISCHARGE)] = battery.max_discharge_w
        most[of(STORED)] = battery.capacity_j
        most[of(SPILLED)] = np.maximum(0.0, self.outlook.renewable_w)
        most[of(SHED)] = np.array(self.outlook.firm_tps)
        for number in range(len(self.site.edges)):
            most[of(EDGE_0 + number)] = 1.0
        for number in range(len(self.classes)):
            come, due = self.tokens(number, due=False), self.tokens(number, due=True)
            most[self.of_class(number)[2]] = np.maximum(0.0, np.cumsum(come - due))
        return most

    def scale(self) -> Floats:
        """Return a usual size of each unknown."""
        site, scale = self.site, np.ones(self.count)
        unit_w = max(site.most_w, 1.0)
        unit_tps = max(sum(edge.output_tps for edge in site.edges), 1e-9)
        scale[: EDGE_0 * self.steps] = unit_w
        scale[self.of_each(STORED)] = unit_w * site.step_s
        scale[self.of_each(SHED)] = unit_tps
        for number in range(len(self.classes)):
            done_tps, late, backlog = self.of_class(number)
            scale[done_tps] = unit_tps
            scale[late] = scale[backlog] = unit_tps * site.step_s
        return scale

    def plan(self, values: Floats) -> MarketPlan:
        """Return the plan that the values of the unknowns describe."""
        of, site = self.of_each, self.site
        classes = [self.of_class(number) for number in range(len(self.classes))]
        draw_w = site.floor_w + sum(
            values[of(EDGE_0 + n)] * edge.draw_w for n, edge in enumerate(site.edges)
        )
        traded_w = values[of(MORE)] - values[of(LESS)]
        nothing = np.zeros(self.steps)

        def each(series: Floats) -> tuple[float, ...]:
            return tuple(series.tolist())

        return MarketPlan(
            step_s=site.step_s,
            traded_w=each(traded_w),
            grid_w=each(self.position_w + traded_w),
            draw_w=each(draw_w + nothing),
            charge_w=each(values[of(CHARGE)]),
            discharge_w=each(values[of(DISCHARGE)]),
            stored_j=each(values[of(STORED)]),
            spilled_w=each(values[of(SPILLED)]),
            deferred_tps=each(nothing + sum(values[done] for done, _, _ in classes)),
            late_tokens=each(nothing + sum(values[late] for _, late, _ in classes)),
            shed_tps=each(values[of(SHED)]),
            down_w=each(values[of(DOWN_WORK)] + values[of(DOWN_BATTERY)]),
            up_w=each(values[of(UP_WORK)] + values[of(UP_BATTERY)]),
            missed_w=each(values[of(MISSED_DOWN)] + values[of(MISSED_UP)]),
            worth=float(self.worth() @ values),
        )


def _called(reserve: Reserve | None) -> float:
    return 0.0 if reserve is None else reserve.called_share


def _hold_s(reserve: Reserve | None) -> float:
    return 0.0 if reserve is None else reserve.hold_s


def _sold_w(reserve: Reserve | None, steps: int) -> Floats:
    if reserve is None or not reserve.sold_w:
        return np.zeros(steps)
    return np.array(reserve.sold_w, dtype=float)
