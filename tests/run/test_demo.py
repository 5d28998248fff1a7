from __future__ import annotations

import pytest

from steppe.config import RunConfig, load_config
from steppe.config.shipped import shipped_config
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint
from steppe.run.demo import arrival_rate

FULL = OperatingPoint(1980, 8, output_tps=100.0, draw_w=50.0)


@pytest.fixture
def config() -> RunConfig:
    return load_config(shipped_config("demo.yaml"))


@pytest.fixture
def frontier() -> Frontier:
    return Frontier.of([FULL], asleep_w=20.0, idle_w=25.0, source="test")


def test_the_demo_sends_the_configured_rate(config: RunConfig, frontier: Frontier) -> None:
    assert arrival_rate(config, frontier, replicas=2) == config.load.rate_rps


def test_without_a_rate_the_demo_sends_its_share_of_the_full_output(
    config: RunConfig, frontier: Frontier
) -> None:
    load = config.load.model_copy(update={"rate_rps": None})
    by_share = config.model_copy(update={"load": load})
    one = arrival_rate(by_share, frontier, replicas=1)
    assert one > 0
    assert arrival_rate(by_share, frontier, replicas=2) == pytest.approx(2 * one)
