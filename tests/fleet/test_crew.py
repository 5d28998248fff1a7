from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from steppe.config import NvmlSection, RunConfig
from steppe.errors import ConfigError
from steppe.fleet import crew as crew_module
from steppe.fleet.cluster import Machine
from steppe.fleet.crew import Crew, RunningNode
from steppe.fleet.members import Placement
from steppe.fleet.messages import GpuInfo, NodeInfo, Reading
from steppe.frontier.roofline_file import read_model_shape


def crew_of(**device: Any) -> Crew:
    values = {
        "model": {"name": "llama-3.1-8b"},
        "device": device,
        "fleet": {"gpus_per_replica": 2},
        "power": {"supply": [{"kind": "constant", "watts": 100}]},
        "frontier": {"sweep": {}},
    }
    return Crew(RunConfig.model_validate(values), "tiny", "run-1")


def node_of(*clocks_mhz: tuple[int, ...]) -> RunningNode:
    gpus = tuple(GpuInfo(i, f"GPU-{i}", "L4", clocks) for i, clocks in enumerate(clocks_mhz))
    return RunningNode(Machine("n", "-", len(gpus)), None, NodeInfo("n", gpus, (0,), "measured"))


def reading(time_s: float, energy_j: float) -> Reading:
    return Reading(time_s, energy_j, 0, 0, 0, 0.0, "counter", 0, 0)


def test_a_node_is_told_what_is_served_so_that_it_can_weigh_tokens() -> None:
    settings = crew_of(kind="nvml")._node_settings()
    assert settings.device == NvmlSection(kind="nvml")
    assert (settings.model, settings.gpus_per_replica) == (read_model_shape("llama-3.1-8b"), 2)
    emulated = crew_of(kind="emulated", profile="h100")._node_settings()
    assert (emulated.model, emulated.run_id) == (None, "run-1")


def test_modelled_gpus_are_no_place_to_serve() -> None:
    with pytest.raises(ConfigError, match=r"device\.kind"):
        crew_of(kind="modelled")._node_settings()


@pytest.mark.parametrize(
    ("nodes", "can"),
    [([((600, 900),)], True), ([((600, 900), ())], False), ([((600,),), ((),)], False)],
)
def test_one_gpu_whose_clock_is_free_sets_the_clocks_of_the_fleet_free(
    nodes: list[tuple[tuple[int, ...], ...]], can: bool
) -> None:
    crew = crew_of(kind="nvml")
    crew.nodes = {str(number): node_of(*clocks) for number, clocks in enumerate(nodes)}
    assert crew.can_limit_clocks == can


def test_a_fleet_can_be_set_to_the_clocks_that_all_its_gpus_know() -> None:
    crew = crew_of(kind="nvml")
    crew.nodes = {"a": node_of((600, 900, 1200)), "b": node_of((300, 600, 900), (600, 900))}
    assert crew.common_clocks_mhz == (600, 900)


def test_a_replica_that_lost_its_node_still_belongs_to_the_fleet(
    actors: Callable[..., Any],
) -> None:
    crew = crew_of(kind="nvml")
    for name, node in (("replica-1", "a"), ("replica-2", "b")):
        crew.placements[name] = Placement(name, actors(), node, actors(), [0], ())
        crew.nodes[node] = node_of((600,))
    crew.lose("b")
    assert (crew.homeless, crew.replicas) == (["replica-2"], 2)


def test_rest_is_the_largest_draw_of_any_replica_that_was_metered(
    actors: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    crew = crew_of(kind="nvml")
    node = actors()
    for name in ("replica-1", "replica-2"):
        crew.placements[name] = Placement(name, actors(), "n", node, [0], ())
    readings = iter([reading(1.0, 0.0), reading(1.0, 0.0), reading(3.0, 70.0), reading(1.0, 0.0)])
    monkeypatch.setattr(crew, "reading", lambda _: next(readings))
    monkeypatch.setattr(crew_module, "REST_S", 0.0)
    assert crew.rest_w() == 35.0
