from __future__ import annotations

import pytest

from steppe.grid.plan.terms import Edge, Site, per_mwh
from steppe.power.battery import Battery


@pytest.fixture
def site() -> Site:
    """Return a site of about 1 MW: its first edge yields twice as much per joule as its second."""
    return Site(
        floor_w=1e5,
        edges=(Edge(5e5, 1e5), Edge(4e5, 4e4)),
        import_limit_w=2e6,
        firm_token_value=1e-4,
        later_price=per_mwh(60.0),
        battery=Battery(3.6e9, 5e5, 5e5, 0.95, 0.95),
    )
