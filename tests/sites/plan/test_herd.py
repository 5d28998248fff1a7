"""Many gateways that see one surplus do not overrun it."""

from __future__ import annotations

from steppe.sites.plan.solve import plan_sites
from steppe.sites.plan.terms import Edge, Flow, PlanPool, PlanSite, PlanTerms
from steppe.sites.quotas import BURST_S, RAMP_PER_S, Quotas

CAPACITY_TPS, REQUEST_TOKENS = 1000.0, 20
GATEWAYS = tuple(f"g{number}" for number in range(8))


def make_site(name: str, renewable_w: float) -> PlanSite:
    pool = PlanPool((Edge(CAPACITY_TPS, 500.0),), 0.2)
    classes = frozenset({"public"})
    return PlanSite(name, "r", classes, 0.0, [600.0], [renewable_w], [1e-7], {"m": pool})


def make_quotas() -> list[Quotas]:
    """Return the quotas of each gateway after one plan, all of which want the site `wind`."""
    sites = [make_site("wind", 500.0), *(make_site(name, 0.0) for name in GATEWAYS)]
    regions, classes = frozenset({"r"}), "public"
    flows = [Flow(name, "m", "standard", regions, classes, [400.0], 1.0) for name in GATEWAYS]
    trips = {(name, "wind"): 0.01 for name in GATEWAYS}
    plan = plan_sites(sites, flows, trips, PlanTerms())
    found = []
    for name in GATEWAYS:
        quotas = Quotas((name, "wind"), 0.0)
        quotas.grant(plan.leases(name, 0.0, 60.0))
        found.append(quotas)
    return found


def sent_in_a_second(quotas: Quotas) -> int:
    """Send as many requests as the quota lets pass, and return their tokens."""
    tokens = 0
    while quotas.left_of("m", "standard")[1] >= REQUEST_TOKENS:
        quotas.spend("wind", "m", "standard", REQUEST_TOKENS)
        tokens += REQUEST_TOKENS
    return tokens


def test_all_gateways_together_rise_slowly_and_keep_within_the_capacity() -> None:
    gateways, rate_tps, sent = make_quotas(), 0.0, 0
    for second in range(1, 41):
        for quotas in gateways:
            quotas.advance(float(second))
        before = rate_tps
        rate_tps = sum(quotas.rate_of("wind", "m", "standard") for quotas in gateways)
        assert rate_tps - before <= RAMP_PER_S * CAPACITY_TPS + 1e-3
        assert rate_tps <= CAPACITY_TPS + 1e-3
        sent += sum(sent_in_a_second(quotas) for quotas in gateways)
        assert sent <= CAPACITY_TPS * second
    assert sent >= 0.75 * CAPACITY_TPS * 40, "the surplus is used after the ramp"


def test_gateways_that_saved_their_quotas_send_no_more_than_a_burst() -> None:
    gateways = make_quotas()
    for quotas in gateways:
        for second in range(1, 40):
            quotas.advance(float(second))
    assert sum(sent_in_a_second(quotas) for quotas in gateways) <= CAPACITY_TPS * BURST_S
