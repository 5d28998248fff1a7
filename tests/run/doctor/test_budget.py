"""A budget that could never wake the fleet, and replicas without room, are found before a start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.run.doctor.made_up import gpu, gpus, health, only, shipped

from steppe.config import PowerSection, RunConfig
from steppe.frontier.file import write_frontier
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint
from steppe.run.doctor.budget import check_budget, check_room
from steppe.run.doctor.finding import Level


def eight(**power: Any) -> RunConfig:
    """Return the shipped configuration of eight GPUs with another budget."""
    config = shipped("eight_gpus")
    if not power:
        return config
    return config.model_copy(update={"power": PowerSection.model_validate(power)})


def constant(watts: float) -> RunConfig:
    return eight(supply=[{"kind": "constant", "watts": watts}])


def test_a_share_of_the_rating_is_shown_in_watts() -> None:
    finding = only(check_budget(eight(), [gpus()]), "supply")
    assert finding.level is Level.OK
    assert finding.found == (
        "at most 3920 W for the GPUs; asleep the fleet of 4 draws 711 W (modelled)"
    )


def test_a_budget_below_the_sleeping_draw_is_fatal_with_both_figures() -> None:
    finding = only(check_budget(constant(118.0), [gpus()]), "supply")
    assert finding.level is Level.FATAL
    assert finding.found.startswith("at most 118 W for the GPUs; asleep the fleet of 4 draws 711 W")


def test_the_draw_of_a_frontier_file_counts_more_than_the_model(tmp_path: Path) -> None:
    file = tmp_path / "points.yaml"
    points = [OperatingPoint(1200, 16, 900.0, 500.0)]
    write_frontier(Frontier.of(points, 100.0, 150.0, "measured"), file)
    config = constant(405.0)
    frontier = config.frontier.model_copy(update={"file": file, "sweep": None})
    finding = only(
        check_budget(config.model_copy(update={"frontier": frontier}), [gpus()]), "supply"
    )
    assert finding.level is Level.OK
    assert finding.found.endswith("draws 400 W (measured)")


def test_a_gpu_that_is_not_known_has_no_sleeping_draw() -> None:
    unknown = [gpu(0, name="NVIDIA RTX 6000"), gpu(1, name="NVIDIA RTX 6000")]
    assert only(check_budget(constant(100.0), [unknown]), "supply").level is Level.UNKNOWN


def test_a_share_of_gpus_without_a_power_limit_is_fatal() -> None:
    finding = only(check_budget(eight(), [gpus(highest_w=None)]), "supply")
    assert (finding.level, finding.advice) == (Level.FATAL, "give rated_w beside share")


def test_a_signal_that_is_not_there_is_a_warning_that_says_what_holds_meanwhile(
    tmp_path: Path,
) -> None:
    path = tmp_path / "watts"
    config = eight(supply=[{"kind": "signal", "path": str(path)}], fallback_w=900.0)
    missing = only(check_budget(config, [gpus()]), "signal")
    assert missing.level is Level.WARNING
    assert missing.advice.endswith("until then the budget is 900 W")
    path.write_text("2500\n")
    found = only(check_budget(config, [gpus()]), "signal")
    assert (found.level, found.found) == (Level.OK, f"{path}: 2500 W, 0 s old")
    assert only(check_budget(config, [gpus()]), "supply").found.startswith("any, by a signal")


@pytest.mark.parametrize(
    ("replicas", "nodes", "level", "says"),
    [
        ("all", [gpus()], Level.OK, "room for 4 on 8 GPUs, 2 for each"),
        (5, [gpus()], Level.FATAL, "asked for 5, room for 4"),
        ("all", [gpus(1), gpus(1)], Level.FATAL, "room for 0"),
        (8, [gpus(), gpus()], Level.OK, "room for 8"),
        (
            4,
            [gpus(health=health(uncorrected_errors=1))],
            Level.WARNING,
            "room for 3 on 7 GPUs, 2 for each; 1 with memory errors left out",
        ),
    ],
)
def test_replicas_need_room_on_sound_gpus_of_one_host(
    replicas: Any, nodes: list[Any], level: Level, says: str
) -> None:
    config = shipped("eight_gpus")
    fleet = config.fleet.model_copy(update={"replicas": replicas})
    finding = check_room(config.model_copy(update={"fleet": fleet}), nodes)
    assert finding.level is level
    assert says in finding.found


def test_a_fleet_that_follows_no_budget_may_have_any() -> None:
    config = constant(0.0)
    control = config.control.model_copy(update={"policy": "full_clocks"})
    free = replace_control(config, control)
    assert only(check_budget(free, [gpus()]), "supply").level is Level.OK


def replace_control(config: RunConfig, control: Any) -> RunConfig:
    return config.model_copy(update={"control": control})
