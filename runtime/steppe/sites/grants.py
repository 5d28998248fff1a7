"""Deferrable work that a site with surplus takes from the others: it grants, and they send.

What a site grants holds as long as its heartbeats come. So work that may wait goes where the wind
is without a plan, and stops with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from steppe.sites.quotas import RAMP_PER_S, QuotaLease
from steppe.sites.view import SiteView

ROOM_SHARE = 0.8
"""Share of its free tokens on surplus that a site grants: the surplus moves."""
DEFERRABLE = "deferrable"
_LEAST_TPOT_S = 1e-3


def grants_of(here: SiteView, peers: Iterable[SiteView]) -> dict[str, dict[str, float]]:
    """Return what this site takes of each other one, output tokens per second by model.

    What waits here comes first. The rest is divided by what the others have of such work.

    Args:
        here: This site.
        peers: The other sites that may get work.
    """
    asking = tuple(peers)
    found: dict[str, dict[str, float]] = {}
    pools = {name: pool for name, pool in here.pools.items() if pool.free_tps > 0.0}
    for pool in pools.values():
        joules = pool.uj_per_token / 1e6
        green_w = here.surplus_w / len(pools)
        green_tps = min(pool.free_tps, green_w / joules) if joules > 0.0 else 0.0
        waiting_tps = pool.waiting / max(pool.tpot_s, _LEAST_TPOT_S)
        room_tps = ROOM_SHARE * (green_tps - waiting_tps)
        wanted = {view.site: _deferrable_tps(view, here, pool.model) for view in asking}
        whole = sum(wanted.values())
        if room_tps <= 0.0 or whole <= 0.0:
            continue
        for site, output_tps in wanted.items():
            if output_tps > 0.0:
                found.setdefault(site, {})[pool.model] = room_tps * output_tps / whole
    return found


def leases_of(
    site: str, grants: Mapping[str, float], granted_s: float, lasts_s: float
) -> list[QuotaLease]:
    """Return the leases that another site grants; together they rise as slowly as planned ones.

    Args:
        site: The other site.
        grants: Output tokens per second by model.
        granted_s: When it was heard, by the monotonic clock of this host, s.
        lasts_s: For how long they hold, s.
    """
    return [
        QuotaLease(site, model, DEFERRABLE, output_tps, RAMP_PER_S * output_tps, granted_s, lasts_s)
        for model, output_tps in grants.items()
    ]


def _deferrable_tps(of: SiteView, at: SiteView, model: str) -> float:
    """Return the deferrable work of a site that may run at another one."""
    return sum(
        each.output_tps
        for each in of.demand
        if each.model == model
        and each.priority == DEFERRABLE
        and at.region in each.regions
        and each.data_class in at.data_classes
    )
