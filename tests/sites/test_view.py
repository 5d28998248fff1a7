from __future__ import annotations

import pytest

from steppe.sites.view import PoolPoint, PoolView, SiteView


def pool(model: str, revision: str, *points: tuple[float, float]) -> PoolView:
    drawn = tuple(PoolPoint(*point) for point in points)
    return PoolView(model, revision, 100.0, 0, 0.2, 0.02, 5e5, drawn)


def site(**pools: PoolView) -> SiteView:
    return SiteView(
        "hohhot", 1, 0.0, 1e6, 4e5, 6e5, 2e5, 500.0, (), (300_000,) * 24, (600.0,) * 24, "CNY",
        "cn-nm", frozenset({"public"}), pools,
    )  # fmt: skip


def test_a_pool_is_found_by_model_and_revision() -> None:
    view = site(a=pool("m", "r1"), b=pool("m", "r2"), c=pool("n", "r1"))
    assert view.pool_of("m", "r2") is view.pools["b"]
    assert view.pool_of("m", None) is view.pools["a"]
    assert view.pool_of("m", "r3") is None
    assert view.pool_of("x", None) is None


def test_the_capacity_of_a_site_is_that_of_the_highest_points() -> None:
    view = site(a=pool("m", "r1", (400.0, 1e3), (900.0, 3e3)), b=pool("n", "r1"))
    assert view.capacity_tps == pytest.approx(1000.0)
