"""The plan of what this site may send: made anew now and then, held as leases in between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from steppe.sites.grants import leases_of
from steppe.sites.plan.inputs import PlanInputs
from steppe.sites.plan.terms import SitesPlan, Way
from steppe.sites.quotas import QuotaLease
from steppe.sites.view import SiteView

JUMP_SHARE = 0.2
"""A surplus, or a demand, that changes by more than this share of the capacity is planned anew."""
LEAST_S = 10.0
"""Shortest time between two plans, s."""
OLD_PERIODS = 2.0
"""Leases of a plan are not renewed once it is so many periods old."""


class Planning:
    """When to plan, and which leases hold. Times are the monotonic clock, s."""

    def __init__(self, site: str, period_s: float, lease_s: float) -> None:
        """Begin without a plan.

        Args:
            site: Name of this site.
            period_s: Longest time between two plans, s.
            lease_s: For how long a lease holds that is not renewed, s.
        """
        self._site, self._period_s, self._lease_s = site, period_s, lease_s
        self._tried_s: float | None = None
        self._tried: PlanInputs | None = None
        self._planned_s = 0.0
        self._plan: SitesPlan | None = None
        self._held: dict[tuple[str, str, str], float] = {}
        self.plans = 0
        """Plans so far."""

    def is_due(self, inputs: PlanInputs, now_s: float) -> bool:
        """Return whether to plan anew for these inputs."""
        if self._tried_s is None or self._tried is None:
            return bool(inputs.peers)
        age_s = now_s - self._tried_s
        if age_s < min(LEAST_S, self._period_s):
            return False
        return age_s >= self._period_s or _has_changed(self._tried, inputs)

    def begin(self, inputs: PlanInputs, now_s: float) -> Mapping[Way, float] | None:
        """Note that a plan is made of these inputs; return the quotas of the last one."""
        self._tried, self._tried_s = inputs, now_s
        return None if self._plan is None else self._plan.quotas

    def take(self, plan: SitesPlan | None, now_s: float) -> None:
        """Take up a plan; None means that there is nothing to plan."""
        self._plan, self._planned_s = plan, now_s
        self.plans += plan is not None

    def leases(
        self, live: Iterable[str], grants: Mapping[str, Mapping[str, float]], now_s: float
    ) -> tuple[QuotaLease, ...]:
        """Return the leases that hold now, renewed; nothing is left of one that has ended.

        Args:
            live: The sites that may get work.
            grants: What they grant, output tokens per second by site and model.
            now_s: The time, s.
        """
        found = {(each.site, each.model, each.priority): each for each in self._planned(now_s)}
        for site, granted in grants.items():
            for lease in leases_of(site, granted, now_s, self._lease_s):
                key = lease.site, lease.model, lease.priority
                planned = found.get(key)
                if planned is None or planned.output_tps < lease.output_tps:
                    found[key] = lease
        sites = set(live)
        found = {key: lease for key, lease in found.items() if key[0] in sites}
        # A gateway that still has the lease learns at once that it has ended.
        for key, until_s in list(self._held.items()):
            if now_s >= until_s:
                del self._held[key]
            elif key not in found:
                found[key] = QuotaLease(*key, 0.0, 0.0, now_s, self._lease_s)
        until_s = now_s + self._lease_s
        self._held |= {key: until_s for key, lease in found.items() if lease.output_tps > 0.0}
        return tuple(found.values())

    def _planned(self, now_s: float) -> tuple[QuotaLease, ...]:
        if self._plan is None or now_s - self._planned_s > OLD_PERIODS * self._period_s:
            return ()
        return self._plan.leases(self._site, now_s, self._lease_s)


def _has_changed(before: PlanInputs, now: PlanInputs) -> bool:
    """Return whether a site came or went, or a surplus or a demand jumped."""
    old = {view.site: view for view in (before.here, *before.peers)}
    new = {view.site: view for view in (now.here, *now.peers)}
    return old.keys() != new.keys() or any(_jumped(old[name], new[name]) for name in new)


def _jumped(before: SiteView, now: SiteView) -> bool:
    most_w = max((_most_w(view) for view in (before, now)), default=0.0)
    most_tps = max(before.capacity_tps, now.capacity_tps)
    asked = [sum(each.output_tps for each in view.demand) for view in (before, now)]
    return (
        abs(now.surplus_w - before.surplus_w) > JUMP_SHARE * most_w
        or abs(asked[1] - asked[0]) > JUMP_SHARE * most_tps
    )


def _most_w(view: SiteView) -> float:
    """Return the most that the pools of a site draw; its budget if that is not known, W."""
    points = [point.draw_w for pool in view.pools.values() for point in pool.points[-1:]]
    return sum(points) if points else view.budget_w
