from __future__ import annotations

import pytest
from tests.fixtures.virtual_replica import VirtualReplica

from steppe.errors import DeviceError
from steppe.measure.sweep.idle import measure_draw_w, measure_rest


@pytest.fixture
def replicas() -> list[VirtualReplica]:
    return [VirtualReplica("replica-1"), VirtualReplica("replica-2", idle_w=60.0)]


def test_draw_without_work_is_the_mean_over_replicas_at_the_lowest_clock(
    replicas: list[VirtualReplica],
) -> None:
    def sleep(seconds: float) -> None:
        for replica in replicas:
            replica.sleep(seconds)

    rest = measure_rest(replicas, 600, sleep)
    assert rest.floor_idle_w == pytest.approx(50.0)
    assert rest.asleep_w == pytest.approx(10.0)
    assert [replica.frozen for replica in replicas] == [False, False]
    assert [replica.settings for replica in replicas] == [[(600, 1)], [(600, 1)]]


def test_a_meter_that_stands_still_is_an_error(replicas: list[VirtualReplica]) -> None:
    with pytest.raises(DeviceError, match="replica-1: asked for 3 s of energy, found no reading"):
        measure_draw_w(replicas, 3.0, sleep=lambda _: None)
