"""Which replicas of a fleet share the points of a sweep, and what is expected of them."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from rich.console import Console

from steppe.config import RunConfig
from steppe.fleet.driver.fleet_actors import FleetActors
from steppe.fleet.messages import GpuInfo, NodeInfo, Placement
from steppe.load.generators import SEQUENCE_TPS
from steppe.run.expected_rate import expected_tps
from steppe.run.sweep_rigs import alike, cards_of

H100, L4 = "NVIDIA H100 80GB HBM3", "NVIDIA L4"


@dataclass
class FakeNode:
    info: NodeInfo


@dataclass
class FakeFleet:
    """One machine with two H100 and two L4; replicas of two GPUs each."""

    nodes: dict[str, FakeNode] = field(default_factory=dict)
    placements: dict[str, Placement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        gpus = tuple(GpuInfo(n, name, ()) for n, name in enumerate((H100, H100, L4, L4)))
        self.nodes["a"] = FakeNode(NodeInfo(gpus, (), "emulated"))
        for number, indices in enumerate(([0, 1], [2, 3])):
            name = f"replica-{number}"
            self.placements[name] = Placement(name, None, "a", None, indices, ())


@pytest.fixture
def fleet() -> FleetActors:
    return cast(FleetActors, FakeFleet())


def test_replicas_on_other_gpus_than_the_first_are_left_out_and_named(fleet: FleetActors) -> None:
    text = io.StringIO()
    names = ["replica-0", "replica-1"]
    assert alike(fleet, names, Console(file=text, width=200)) == ["replica-0"]
    assert "1 of 2 replicas are left out, because their GPUs are no NVIDIA H100" in text.getvalue()
    assert cards_of(fleet, "replica-1") == (L4, L4)


def test_equal_replicas_share_the_points_in_silence(fleet: FleetActors) -> None:
    text = io.StringIO()
    assert alike(fleet, ["replica-0"], Console(file=text)) == ["replica-0"]
    assert text.getvalue() == ""


def config_of(**changes: Any) -> RunConfig:
    values = {
        "model": {"name": "llama-3.1-8b"},
        "engine": {"kind": "synthetic", "max_batch_limit": 256},
        "device": {"kind": "nvml"},
        "power": {"supply": [{"kind": "constant", "watts": 1000}]},
    }
    return RunConfig.model_validate(values | changes)


def test_the_expected_tokens_of_a_known_model_on_a_known_gpu_are_modelled() -> None:
    found = expected_tps(config_of(), {H100})
    assert 5_000 < found < 256 * SEQUENCE_TPS * 2


def test_the_expected_tokens_of_an_unknown_gpu_follow_the_batch_limit() -> None:
    assert expected_tps(config_of(), {"NVIDIA Unheard 1"}) == 256 * SEQUENCE_TPS
    assert expected_tps(config_of(), {H100, L4}) == 256 * SEQUENCE_TPS


def test_the_expected_tokens_of_emulated_gpus_follow_their_pace() -> None:
    pace = {"weights_s": 0.01, "decode_s": 0.0, "prefill_s": 0.0}
    config = config_of(device={"kind": "emulated", "profile": "h100", "pace": pace})
    assert expected_tps(config, {H100}) == pytest.approx(256 / 0.01, rel=0.05)
