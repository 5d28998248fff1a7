"""Where flexibility comes from: work that can wait, streams, sleep and the battery."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steppe.grid.plan.terms import Site, Work
from steppe.grid.verify.delivery import Direction


@dataclass(frozen=True, slots=True)
class Source:
    """Watts by which the draw can change in one direction, and what that costs.

    Attributes:
        name: What gives them, for people.
        watts: How many, W.
        notice_s: Time from the call to the first change, s.
        ramp_w_per_s: How fast the draw then changes, W per second.
        energy_j: How many joules it can give in one call, J; `math.inf` for any number.
        price: What a joule costs, money per joule.
        tokens_per_j: Output tokens that are not made, for each joule; below zero if more are made.
        slo_tokens_per_j: The part of them that misses its SLO.
        rebound_share: Share of the energy that is drawn again afterwards.
        recovery_s: Time until it can be called again, s.
        after_s: Time into a call before which it gives nothing, s.
        direction: Whether the site draws less or more.
    """

    name: str
    watts: float
    notice_s: float
    ramp_w_per_s: float
    price: float
    energy_j: float = math.inf
    tokens_per_j: float = 0.0
    slo_tokens_per_j: float = 0.0
    rebound_share: float = 0.0
    recovery_s: float = 0.0
    after_s: float = 0.0
    direction: Direction = Direction.LESS

    def sustained_w(self, hold_s: float) -> float:
        """Return the watts that it gives on average over a call of this length, W.

        A source that has no energy left is followed by one that gives nothing before that time, so
        that both together give the same watts all the time.
        """
        given_w = self.watts * (1.0 - self.after_s / hold_s) if self.after_s else self.watts
        return max(0.0, min(given_w, self.energy_j / hold_s))


@dataclass(frozen=True, slots=True)
class Now:
    """The state of the site that its flexibility depends on.

    Attributes:
        draw_w: Draw of the fleet, W.
        firm_tps: Output tokens per second that cannot wait.
        stored_j: Energy in the battery, J.
        work: Work that can wait and has arrived; `due_step` counts from now.
        energy_price: Price of a joule, money.
        later_w: Draw that the fleet may have after a call, W.
    """

    draw_w: float
    firm_tps: float
    stored_j: float
    work: Sequence[Work]
    energy_price: float
    later_w: float = math.inf


def slack_s(site: Site, now: Now) -> float:
    """Return for how long all work that can wait may stop without a late token, s; at least 0.

    After the stop it runs at the draw that is possible then, beside firm work. For each time at
    which work is due, what is due until then has to fit into what is left.
    """
    most_tps = site.output_of(min(site.most_w, now.later_w))
    rate_tps = max(0.0, most_tps - now.firm_tps)
    slack, tokens = math.inf, 0.0
    for one in sorted(now.work, key=lambda work: work.due_step):
        tokens += one.tokens
        if tokens > 0.0:
            needs_s = tokens / rate_tps if rate_tps > 0.0 else math.inf
            slack = min(slack, (one.due_step + 1) * site.step_s - needs_s)
    return max(0.0, slack)


def stopped_work(
    site: Site, now: Now, hold_s: float, *, notice_s: float, ramp_w_per_s: float
) -> Source:
    """Return what the draw falls by if work that can wait stops, for as long as none is late.

    It costs nothing but the price of the energy with which the work runs later: what is not
    bought now is bought then, so the price is 0 and all of it rebounds.
    """
    watts = max(0.0, now.draw_w - site.draw_of(now.firm_tps)) if now.work else 0.0
    slack, spare_w = slack_s(site, now), site.most_w - now.draw_w
    caught_up_s = hold_s * watts / spare_w if spare_w > 0.0 else math.inf
    return Source(
        name="work that can wait",
        watts=watts,
        notice_s=notice_s,
        ramp_w_per_s=ramp_w_per_s,
        price=0.0,
        energy_j=watts * slack if watts else 0.0,
        rebound_share=1.0,
        recovery_s=min(caught_up_s, slack) if watts else 0.0,
    )


def given_up_work(site: Site, now: Now, *, notice_s: float, ramp_w_per_s: float) -> Source:
    """Return what the draw falls by once stopped work has waited for as long as it can.

    It is late then: each joule costs the worth of its tokens.
    """
    whole_w = max(0.0, now.draw_w - site.draw_of(now.firm_tps)) if now.work else 0.0
    slack = slack_s(site, now)
    rate = max((edge.tokens_per_j for edge in site.edges), default=0.0)
    value = max((one.token_value for one in now.work), default=0.0) + site.late_penalty
    price = max(0.0, value * rate - now.energy_price)
    return Source(
        "work that is late",
        whole_w if math.isfinite(slack) else 0.0,
        notice_s,
        ramp_w_per_s,
        price,
        tokens_per_j=rate,
        after_s=slack if math.isfinite(slack) else 0.0,
    )


def slower_streams(
    site: Site, now: Now, share: float, *, notice_s: float, ramp_w_per_s: float
) -> Source:
    """Return what the draw falls by if streams get this share fewer tokens; they miss their SLO."""
    fewer_tps = share * now.firm_tps
    watts = site.draw_of(now.firm_tps) - site.draw_of(now.firm_tps - fewer_tps)
    rate = fewer_tps / watts if watts > 0.0 else 0.0
    return Source(
        name="slower streams",
        watts=watts,
        notice_s=notice_s,
        ramp_w_per_s=ramp_w_per_s,
        price=max(0.0, site.firm_token_value * rate - now.energy_price),
        tokens_per_j=rate,
        slo_tokens_per_j=rate,
    )


def deeper_sleep(
    replicas: int, idle_w: float, asleep_w: float, sleep_s: float, wake_j: float
) -> Source:
    """Return what the draw falls by if so many idle replicas sleep.

    Args:
        replicas: Idle replicas.
        idle_w: Draw of one, W.
        asleep_w: Draw of one that sleeps, W.
        sleep_s: Time until it sleeps, s.
        wake_j: Energy beyond its idle draw with which it wakes, J; drawn again afterwards.
    """
    watts = max(0.0, replicas * (idle_w - asleep_w))
    whole_j = watts * max(sleep_s, 1.0)
    share = min(1.0, replicas * wake_j / whole_j) if whole_j else 0.0
    ramp = watts / max(sleep_s, 1.0)
    return Source("sleep", watts, sleep_s, ramp, 0.0, rebound_share=share, recovery_s=sleep_s)


def battery_down(site: Site, now: Now, wear: float) -> Source:
    """Return what the draw from the grid falls by if the battery gives power.

    Args:
        site: What does not change.
        now: The state.
        wear: Cost of a joule through the battery, money.
    """
    battery = site.battery
    loss = 1 / (battery.charge_efficiency * battery.discharge_efficiency)
    return Source(
        name="battery",
        watts=battery.max_discharge_w,
        notice_s=0.0,
        ramp_w_per_s=battery.max_discharge_w,
        price=wear + max(0.0, now.energy_price) * (loss - 1.0),
        energy_j=now.stored_j * battery.discharge_efficiency,
        rebound_share=1.0,
        recovery_s=_ratio(battery.capacity_j, battery.max_charge_w),
    )


def battery_up(site: Site, now: Now, wear: float) -> Source:
    """Return what the draw from the grid rises by if the battery takes power."""
    battery = site.battery
    room_j = max(0.0, battery.capacity_j - now.stored_j)
    return Source(
        name="battery",
        watts=battery.max_charge_w,
        notice_s=0.0,
        ramp_w_per_s=battery.max_charge_w,
        price=wear,
        energy_j=room_j / battery.charge_efficiency,
        recovery_s=_ratio(battery.capacity_j, battery.max_discharge_w),
        direction=Direction.MORE,
    )


def more_work(site: Site, now: Now, *, notice_s: float, ramp_w_per_s: float) -> Source:
    """Return what the draw rises by if work that can wait runs now, for as long as there is any."""
    tokens = sum(one.tokens for one in now.work)
    watts = max(0.0, site.most_w - now.draw_w) if tokens > 0.0 else 0.0
    rate = max((edge.tokens_per_j for edge in site.edges), default=0.0)
    return Source(
        "work that can wait",
        watts,
        notice_s,
        ramp_w_per_s,
        price=0.0,
        energy_j=tokens / rate if rate else 0.0,
        tokens_per_j=-rate,
        direction=Direction.MORE,
    )


def _ratio(energy_j: float, power_w: float) -> float:
    """Return the time that an energy takes, s; 0 for none."""
    return energy_j / power_w if power_w > 0.0 else 0.0
