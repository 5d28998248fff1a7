"""What the pools of a live fleet can do, as the grid service asks it."""

from __future__ import annotations

from pathlib import Path

from steppe.config import parse_config
from steppe.fleet.controller.live_pools import LivePools
from steppe.frontier.pareto import Frontier
from steppe.grid.service.seam import FleetPoints
from steppe.power.budget import budget_from_config
from steppe.roofline.point import OperatingPoint

CONFIG = {
    "model": {"name": "none"},
    "engine": {"kind": "synthetic", "max_batch_limit": 16},
    "device": {"kind": "emulated", "profile": "l4", "count": 2},
    "power": {"supply": [{"kind": "constant", "watts": 90.0}]},
    "frontier": {"sweep": {"prompt_tokens": 144, "output_tokens": 26}},
}


def test_the_operating_points_of_one_pool_are_those_of_the_fleet() -> None:
    config = parse_config(CONFIG, "config", Path())
    pools = LivePools(config, budget_from_config(config.power, config.site))
    assert pools.fleet_points is None
    points = [OperatingPoint(mhz, 16, mhz / 10, 50 + mhz / 20, 0.1) for mhz in (500, 1000)]
    frontier = Frontier.of(points, 10.0, 50.0, "modelled")
    pools.begin({"": frontier}, {"": "none"}, ())
    assert pools.fleet_points == FleetPoints(frontier, 0)
