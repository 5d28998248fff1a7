from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from steppe.sites.view import PoolPoint, PoolView, RequestView, SiteView

MakeSite = Callable[..., SiteView]
MakeAsked = Callable[..., RequestView]

POOL = PoolView(
    "m", "r1", 400.0, 0, 0.2, 0.02, 4e5, (PoolPoint(1000.0, 400.0),), prompt_uj_per_token=4e4
)
SITE = SiteView(
    "a", 1, 100.0, 1e3, 5e2, 400.0, 0.0, 500.0, (), (300_000,) * 24, (600.0,) * 24, "CNY", "north",
    frozenset({"public"}), {"m": POOL},
)  # fmt: skip
ASKED = RequestView("m", None, "interactive", frozenset({"north", "south"}), "public", 1000, 200)


@pytest.fixture
def make_site() -> MakeSite:
    """Return a maker of sites; it takes fields of the site and of its only pool."""

    def make(name: str = "a", pool: dict[str, Any] | None = None, **fields: Any) -> SiteView:
        pools = {"m": replace(POOL, **(pool or {}))}
        return replace(SITE, site=name, **{"pools": pools, **fields})

    return make


@pytest.fixture
def make_asked() -> MakeAsked:
    """Return a maker of requests."""
    return lambda **fields: replace(ASKED, **fields)
