"""A live run starts without a measurement, on the best frontier that is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from steppe.config import RunConfig
from steppe.errors import ConfigError
from steppe.fleet.driver.pool_actors import PoolActors
from steppe.fleet.messages import GpuInfo, ReplicaTotals
from steppe.frontier.cache import FrontierCache
from steppe.frontier.file import FrontierSubject, write_frontier
from steppe.frontier.pareto import Frontier
from steppe.roofline.point import OperatingPoint
from steppe.run.starting_frontier import (
    STATIC_SHARE,
    FrontierSource,
    StartingFrontier,
    frontier_key,
    starting_frontiers,
)

CLOCKS_MHZ = tuple(range(210, 2041, 15))
WARNINGS: list[str] = []
MEASURED = Frontier.of([OperatingPoint(1200, 16, 900.0, 50.0)], 7.0, 8.0, "emulated")


@dataclass
class FakeActors:
    """One replica on one GPU."""

    name: str = "NVIDIA L4"
    power_limit_w: float | None = 72.0
    can_limit_clocks: bool = True
    replicas: int = 1
    config: RunConfig | None = None

    @property
    def rated_w(self) -> float | None:
        return self.power_limit_w

    @property
    def nodes(self) -> dict[str, Any]:
        return {"node": None}

    def pools(self) -> dict[str, PoolActors]:
        assert self.config is not None
        return {"": self.pool_of(self.config)}

    def pool_of(self, config: RunConfig) -> PoolActors:
        energies_j = iter((0.0, 15.0))

        def reading(_: str) -> ReplicaTotals:
            energy_j = next(energies_j)
            return ReplicaTotals(energy_j / 15.0, energy_j, 0, 0, 0, 0.0, "counter", 0, 0)

        clocks_mhz = CLOCKS_MHZ if self.can_limit_clocks else ()
        gpu = GpuInfo(0, self.name, clocks_mhz, self.power_limit_w)
        return PoolActors("", config, (gpu,), self.replicas, ("replica-1",), reading)


def config_of(**sections: Any) -> RunConfig:
    values = {
        "model": {"name": "llama-3.1-8b"},
        "engine": {"kind": "transformers", "max_batch_limit": 16},
        "device": {"kind": "nvml"},
        "power": {"supply": [{"kind": "constant", "watts": 100}]},
    }
    return RunConfig.model_validate(values | sections)


def start(actors: FakeActors, config: RunConfig, folder: Path) -> StartingFrontier:
    return start_all(actors, config, FrontierCache(folder))


def start_all(
    actors: FakeActors, config: RunConfig, cache: FrontierCache, *, any_gpu: bool = False
) -> StartingFrontier:
    fleet: Any = replace(actors, config=config)
    return starting_frontiers(fleet, config, cache, WARNINGS.append, any_gpu=any_gpu)[""]


def test_emulated_gpus_start_on_their_own_formula(tmp_path: Path) -> None:
    config = config_of(device={"kind": "emulated", "profile": "l4"})
    found = start(FakeActors(), config, tmp_path)
    assert (found.source, found.frontier.source) == (FrontierSource.MODELLED, "modelled")
    assert found.is_provisional
    assert {point.clock_mhz for point in found.frontier.candidates} <= set(CLOCKS_MHZ)
    assert found.frontier.full.clock_mhz == CLOCKS_MHZ[-1]
    assert found.frontier.full.draw_w <= 72.0


def test_a_gpu_and_model_that_the_roofline_knows_start_on_its_prediction(tmp_path: Path) -> None:
    found = start(FakeActors("NVIDIA H100 80GB HBM3", 700.0), config_of(), tmp_path)
    assert found.source is FrontierSource.MODELLED
    assert 200.0 < found.frontier.full.draw_w < 700.0


@pytest.mark.parametrize(
    ("gpu", "model"), [("NVIDIA RTX 6000", "llama-3.1-8b"), ("NVIDIA L4", "my-own-model")]
)
def test_an_unknown_gpu_or_model_starts_within_the_board_power_limit(
    gpu: str, model: str, tmp_path: Path
) -> None:
    found = start(FakeActors(gpu), config_of(model={"name": model}), tmp_path)
    assert (found.source, found.is_provisional) == (FrontierSource.ASSUMED, True)
    assert found.frontier.full.draw_w == pytest.approx(72.0)
    assert found.frontier.floor.draw_w >= STATIC_SHARE * 72.0
    assert found.frontier.idle_w == 15.0
    assert all(point.tpot_s <= 0.2 for point in found.frontier.points[-1:])


def test_a_gpu_without_a_power_limit_needs_a_frontier_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found GPUs whose draw nothing bounds"):
        start(FakeActors("NVIDIA RTX 6000", None), config_of(), tmp_path)


def test_a_fleet_without_clock_limits_starts_at_the_highest_clock(tmp_path: Path) -> None:
    config = config_of(device={"kind": "emulated", "profile": "l4"})
    found = start(FakeActors(can_limit_clocks=False), config, tmp_path)
    assert len({point.clock_mhz for point in found.frontier.candidates}) == 1


def test_a_measured_frontier_of_an_earlier_run_comes_first(tmp_path: Path) -> None:
    config = config_of(device={"kind": "emulated", "profile": "l4"})
    key = frontier_key(FakeActors().pool_of(config))
    FrontierCache(tmp_path).save(key, MEASURED, {})
    found = start(FakeActors(), config, tmp_path)
    assert (found.source, found.frontier) == (FrontierSource.CACHED, MEASURED)
    assert not found.is_provisional
    pace = {"kind": "emulated", "profile": "l4", "pace": {"weights_s": 0.1}}
    for other in (
        config_of(device=pace),
        config_of(device={"kind": "emulated"}, engine={"kind": "transformers"}),
        config_of(device={"kind": "emulated"}, frontier={"sweep": {"prompt_tokens": 9}}),
    ):
        assert start(FakeActors(), other, tmp_path).source is FrontierSource.MODELLED


def test_a_frontier_file_comes_before_all_and_must_be_of_these_gpus(tmp_path: Path) -> None:
    file = tmp_path / "points.yaml"
    write_frontier(MEASURED, file, FrontierSubject("llama-3.1-8b", "NVIDIA H100 80GB HBM3", 1))
    config = config_of(frontier={"file": str(file)})
    with pytest.raises(ConfigError, match="gpu: asked for NVIDIA L4, found NVIDIA H100 80GB HBM3"):
        start(FakeActors(), config, tmp_path)
    found = start(FakeActors("NVIDIA H100 80GB HBM3"), config, tmp_path)
    assert (found.source, found.frontier) == (FrontierSource.FILE, MEASURED)


def test_a_start_warns_when_no_point_keeps_the_slo(tmp_path: Path) -> None:
    config = config_of(device={"kind": "emulated", "profile": "l4"}, slo={"tpot_s": 0.001})
    WARNINGS.clear()
    start(FakeActors(), config, tmp_path)
    assert "slo.tpot_s" in WARNINGS[0]


def test_a_live_run_with_a_budget_below_the_sleeping_draw_is_refused(tmp_path: Path) -> None:
    power: dict[str, Any] = {"supply": [{"kind": "share_of_rated", "share": 0.1}]}
    device = {"kind": "emulated", "profile": "l4"}
    config = config_of(device=device, power=power)
    with pytest.raises(
        ConfigError, match=r"asked for more than the 15 W of 1 sleeping replica, found"
    ):
        start(FakeActors(), config, tmp_path)
    power["supply"][0]["share"] = 0.7
    assert start(FakeActors(), config_of(device=device, power=power), tmp_path)


def test_a_frontier_file_of_another_gpu_starts_a_run_only_if_forced(tmp_path: Path) -> None:
    file = tmp_path / "points.yaml"
    write_frontier(MEASURED, file, FrontierSubject("llama-3.1-8b", "NVIDIA H100 PCIe"))
    config, cache = config_of(frontier={"file": str(file)}), FrontierCache(tmp_path)
    fleet = FakeActors("NVIDIA H100 80GB HBM3")
    with pytest.raises(ConfigError, match="asked for NVIDIA H100 80GB HBM3, found NVIDIA H100 PCI"):
        start_all(fleet, config, cache)
    start = start_all(fleet, config, cache, any_gpu=True)
    assert start.frontier == MEASURED


def test_each_kind_of_gpu_starts_on_the_frontier_file_that_names_it(tmp_path: Path) -> None:
    for gpu in ("NVIDIA L4", "NVIDIA H100 PCIe"):
        write_frontier(MEASURED, tmp_path / f"{gpu}.yaml", FrontierSubject("llama-3.1-8b", gpu))
    files = [str(tmp_path / f"{gpu}.yaml") for gpu in ("NVIDIA H100 PCIe", "NVIDIA L4")]
    config = config_of(frontier={"files": files})
    assert start(FakeActors("NVIDIA L4"), config, tmp_path).source is FrontierSource.FILE
    with pytest.raises(ConfigError, match=r"frontier\.files: none fits: .*asked for NVIDIA A100"):
        start(FakeActors("NVIDIA A100-SXM4-80GB"), config, tmp_path)
