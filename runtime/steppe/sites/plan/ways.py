"""Where the requests of a flow may go: its own site and a few others.

All sites as targets of all would make the program grow with their square. A flow keeps a few
targets: those with the cheapest energy for their load, and each choice makes a site less
attractive to the flows that choose after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from steppe.sites.plan.terms import Flow, PlanSite, PlanTerms, Way


def may_run(flow: Flow, site: PlanSite, rtt_s: float) -> bool:
    """Return whether law, model and latency let a flow run at a site.

    Args:
        flow: The flow.
        site: The site.
        rtt_s: Round trip between its own site and this one, s.
    """
    pool = site.pools.get(flow.model)
    if pool is None or site.region not in flow.regions or flow.data_class not in site.data_classes:
        return False
    return flow.priority == "deferrable" or rtt_s + pool.first_s <= flow.ttft_s


def ways_of(
    flows: Sequence[Flow],
    sites: Sequence[PlanSite],
    rtt_s: Mapping[tuple[str, str], float],
    terms: PlanTerms,
) -> list[tuple[Way, ...]]:
    """Return the targets of each flow, its own site first if that may run it.

    Args:
        flows: The flows.
        sites: All sites.
        rtt_s: Round trips by origin and target, s; a pair without one is left out.
        terms: How many targets a flow may have.
    """
    trips = {(site.name, site.name): 0.0 for site in sites} | dict(rtt_s)
    cost = {site.name: _cost_of(site) for site in sites}
    expected = dict.fromkeys(cost, 0.0)
    found: list[list[str]] = [[] for _ in flows]
    others: list[list[PlanSite]] = []
    for number, flow in enumerate(flows):
        fit = [
            site
            for site in sites
            if (trip := trips.get((flow.origin, site.name))) is not None
            and may_run(flow, site, trip)
        ]
        found[number] += [site.name for site in fit if site.name == flow.origin]
        others.append([site for site in fit if site.name != flow.origin])
    for _ in range(terms.targets - 1):
        for flow, names, fit in zip(flows, found, others, strict=True):
            free = [site for site in fit if site.name not in names]
            if not free or len(names) >= terms.targets:
                continue
            best = min(free, key=lambda s: (cost[s.name] + _crowd(s, expected, flow), s.name))
            names.append(best.name)
            expected[best.name] += max(flow.output_tps, default=0.0) / terms.targets
    return [
        tuple(Way(flow.origin, name, flow.model, flow.priority) for name in names)
        for flow, names in zip(flows, found, strict=True)
    ]


def _cost_of(site: PlanSite) -> float:
    """Return the mean cost of a joule: nothing for the share that wind and sun give."""
    total = 0.0
    for budget_w, renewable_w, cost in zip(
        site.budget_w, site.renewable_w, site.grid_cost, strict=True
    ):
        room_w = max(0.0, budget_w - site.base_w)
        green_w = min(room_w, max(0.0, renewable_w - site.base_w))
        total += cost * (1.0 - green_w / room_w if room_w else 1.0)
    return total / max(1, site.steps)


def _crowd(site: PlanSite, expected: Mapping[str, float], flow: Flow) -> float:
    """Return what a site costs more because others have chosen it."""
    capacity_tps = site.pools[flow.model].capacity_tps
    dearest = max(site.grid_cost, default=0.0)
    return dearest * expected[site.name] / max(capacity_tps, 1e-9)
