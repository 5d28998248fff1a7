from __future__ import annotations

import pytest
from tests.fixtures.virtual_replica import VirtualReplica

from steppe.errors import DeviceError
from steppe.measure.sweep.grid import SweepGrid
from steppe.measure.sweep.point import MeasurePlan
from steppe.measure.sweep.result import PointResult
from steppe.measure.sweep.sweep import run_sweep

PLAN = MeasurePlan(windows=2, window_s=1.0, warm_up_s=0.0, longest_settle_s=0.0)
GRID = SweepGrid((1000, 1800), (1, 4, 8), ((144, 26),))


def test_every_point_is_measured_once(replica: VirtualReplica) -> None:
    found: list[PointResult] = []
    run_sweep([replica.rig], GRID.settings, PLAN, found.append, replica.timing)
    assert [point.setting for point in found] == GRID.settings


def test_after_a_failure_no_other_point_begins(
    replica: VirtualReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DeviceError("the GPU fell off the bus")

    monkeypatch.setattr(replica, "set_point", fail)
    with pytest.raises(DeviceError, match="fell off"):
        run_sweep([replica.rig], GRID.settings, PLAN, lambda _: None, replica.timing)
    assert replica.settings == []
