from __future__ import annotations

from typing import Any

import pytest

from steppe.run.demo_sites.follow import is_ready, usable_sites

READY: dict[str, Any] = {
    "t_s": 3.0,
    "controller": {"stale": False},
    "models": {"m": {"awake": 1}},
}
METRICS = """\
# TYPE steppe_sites_usable gauge
steppe_sites_usable{site="guizhou"} 1.0
steppe_sites_usable{site="shanghai"} 0.0
steppe_sites_resting{site="shanghai"} 1.0
"""


def test_a_site_is_ready_once_its_controller_ticks_and_a_replica_is_awake() -> None:
    assert is_ready(READY)


@pytest.mark.parametrize(
    "status",
    [
        None,
        {"controller": {"stale": True}, "models": {}},
        READY | {"controller": {"stale": True}},
        READY | {"models": {"m": {"awake": 0}}},
    ],
)
def test_a_site_that_starts_is_not_ready(status: dict[str, Any] | None) -> None:
    assert not is_ready(status)


def test_the_sites_that_may_get_work_are_in_the_metrics() -> None:
    assert usable_sites(METRICS) == {"guizhou"}
    assert usable_sites("") == frozenset()
