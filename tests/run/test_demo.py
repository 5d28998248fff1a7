from __future__ import annotations

import pytest

from steppe.config import RunConfig, load_config
from steppe.config.shipped import shipped_config
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint
from steppe.run.demo import demo_load, load_command

FULL = OperatingPoint(1980, 8, output_tps=100.0, draw_w=50.0)


@pytest.fixture
def config() -> RunConfig:
    return load_config(shipped_config("demo.yaml"))


@pytest.fixture
def frontier() -> Frontier:
    return Frontier.of([FULL], asleep_w=20.0, idle_w=25.0, source="test")


def test_the_demo_sends_the_configured_rate(config: RunConfig, frontier: Frontier) -> None:
    _, rate_rps = demo_load(config, frontier, replicas=2)
    assert rate_rps == config.load.rate_rps


def test_without_a_rate_the_demo_sends_its_share_of_the_full_output(
    config: RunConfig, frontier: Frontier
) -> None:
    load = config.load.model_copy(update={"rate_rps": None})
    by_share = config.model_copy(update={"load": load})
    one, two = (demo_load(by_share, frontier, replicas=count)[1] for count in (1, 2))
    assert one > 0
    assert two == pytest.approx(2 * one)


def test_the_demo_sends_the_configured_traffic_and_its_changes(
    config: RunConfig, frontier: Frontier
) -> None:
    changes = [{"at_s": 60, "traffic": "summaries"}, {"at_s": 90, "traffic": "retrieval"}]
    asked = config.load.model_dump() | {"traffic": "half_and_half", "traffic_changes": changes}
    moving = RunConfig.model_validate(config.model_dump() | {"load": asked})
    load, rate_rps = demo_load(moving, frontier, replicas=2)
    command = load_command(moving, load, rate_rps, day_s=240.0)
    assert command[command.index("--traffic") + 1] == "half_and_half"
    given = [text for at, text in enumerate(command) if command[at - 1] == "--traffic-change"]
    assert given == ["60.0:summaries:3.8000", "90.0:retrieval:3.8000"]


def test_the_demo_replays_a_trace_file_without_a_traffic(
    config: RunConfig, frontier: Frontier
) -> None:
    load = config.load.model_copy(update={"trace": "trace.csv"})
    replaying = config.model_copy(update={"load": load})
    command = load_command(replaying, *demo_load(replaying, frontier, replicas=2), day_s=240.0)
    assert command[command.index("--trace") + 1] == "trace.csv"
    assert "--traffic" not in command
