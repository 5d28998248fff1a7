"""The model of several sites: its bound is that of a solver, and rivals get the same requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(
    not (DATA / "renewable").is_dir(), reason=f"{DATA}: no measured wind on this machine"
)


@pytest.fixture(scope="module")
def table(bench: Any) -> Any:
    """Return what a site of four replicas does."""
    return bench("sites_replica").site_table(4)


def test_more_load_draws_more_and_each_request_more_than_the_one_before(table: Any) -> None:
    slopes = np.diff(table.draw_w) / np.diff(table.load_rps)
    assert (slopes > 0.0).all()
    assert (np.diff(slopes) > -1e-6 * slopes.max()).all()
    assert 0.2 < table.base_w / table.draw_w[-1] < 0.4


@pytest.mark.parametrize("load_share", [0.1, 0.5, 0.9])
def test_filling_the_cheapest_parts_gives_what_a_solver_gives(
    bench: Any, table: Any, load_share: float
) -> None:
    oracle, rng = bench("sites_oracle"), np.random.default_rng(3)
    edges, sites = oracle.edges_of(table), 4
    renewable_w = rng.uniform(0.0, 1.2 * table.draw_w[-1], sites)
    load_rps = load_share * sites * table.capacity_rps
    loads, draws_w = oracle.least_grid(table, renewable_w, load_rps, edges)
    ours_w = np.maximum(0.0, draws_w - renewable_w).sum()
    parts = sites * len(edges)
    below = np.zeros((sites, parts + sites))
    for site in range(sites):
        below[site, site * len(edges) : (site + 1) * len(edges)] = edges[:, 1]
        below[site, parts + site] = -1.0
    solved = linprog(
        np.concatenate([np.zeros(parts), np.ones(sites)]),
        A_ub=below,
        b_ub=renewable_w - table.base_w,
        A_eq=[np.concatenate([np.tile(edges[:, 0], sites), np.zeros(sites)])],
        b_eq=[load_rps],
        bounds=[(0, 1)] * parts + [(0, None)] * sites,
    )
    assert loads.sum() == pytest.approx(load_rps)
    assert ours_w == pytest.approx(solved.fun, rel=1e-6, abs=1e-3)


def test_shares_keep_as_much_at_home_as_the_plan_lets_them(bench: Any) -> None:
    shares = bench("sites_oracle").shares_of(np.array([10.0, 10.0]), np.array([15.0, 5.0]))
    assert shares == pytest.approx(np.array([[1.0, 0.0], [0.5, 0.5]]))


@needs_data
@pytest.mark.slow
def test_all_policies_serve_the_same_requests_and_none_beats_the_oracle(bench: Any) -> None:
    sites = bench("sites")
    arguments = sites.parsed(["--data", str(DATA), "--days", "0.05", "--sites", "3"])
    case = sites.replace(sites.case_of(3, arguments, 0), step_s=30.0, parcels=2, replicas=4)
    rows = sites.compare(case, arguments)
    least_kwh = rows[0]["grid_kwh"]
    assert [row["policy"] for row in rows] == ["oracle", *sites.POLICIES]
    assert all(row["grid_kwh"] >= 0.97 * least_kwh for row in rows[1:])
    local = next(row for row in rows if row["policy"] == "local")
    assert local["moved_share"] == 0.0
    assert local["gain_share"] == 0.0
    found = {row["name"]: row for row in sites.sites_table.targets(rows)}
    assert len(found) == 2


@needs_data
@pytest.mark.slow
def test_a_front_reaches_the_sites_one_after_the_other(bench: Any) -> None:
    sites = bench("sites")
    shifted = sites.parsed(["--data", str(DATA), "--days", "2", "--sites", "3"])
    front = sites.parsed(["--data", str(DATA), "--days", "2", "--sites", "3", "--front"])
    independent, _ = sites.world_of(sites.case_of(3, shifted, 0), DATA)
    one_wind, _ = sites.world_of(sites.case_of(3, front, 0), DATA)
    assert one_wind.wind_correlation > independent.wind_correlation
    assert (independent.requests == one_wind.requests).mean() > 0.0
