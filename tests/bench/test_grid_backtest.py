from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

Bench = Callable[[str], ModuleType]


def test_the_lowest_share_of_all_seeds_has_to_meet_the_target(bench: Bench) -> None:
    backtest = bench("grid_backtest")
    gains = {"none": 0.0, "plan": 90.0, "perfect foresight": 100.0}
    alone = {"plan, no reserve": 45.0, "perfect foresight, no reserve": 50.0}
    rows = [
        {"seed": seed, "way": way, "gain": gain - 10.0 * seed * (way == "plan")}
        for seed in (0, 1)
        for way, gain in (gains | alone).items()
    ]
    assert backtest.shares_of(rows, "") == [0.9, 0.8]
    met = {target["name"]: target["met"] for target in backtest.targets_of(rows)}
    assert list(met.values()) == [False, True]
