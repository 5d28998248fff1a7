from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steppe.cli.simulated import mean_request, simulated_fleet
from steppe.config import RunConfig
from steppe.frontier.roofline_file import read_roofline
from steppe.sim.points import Lengths


def config_of(**parts: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"name": "gemma-3-27b"},
            "fleet": {"replicas": 2},
            "device": {"kind": "modelled", "gpu": "h100"},
            "power": {"supply": [{"kind": "constant", "watts": 1000}]},
            "frontier": {"file": "points.yaml"},
        }
        | parts
    )


def test_memory_holds_as_many_long_requests_as_the_roofline_says() -> None:
    sweep = {"prompt_tokens": 100_000, "output_tokens": 211}
    kind = simulated_fleet(config_of(frontier={"sweep": sweep})).kind
    said = read_roofline("gemma-3-27b", "h100", 1).held(1000, 100_000, 211)
    assert kind.engine.kv_tokens / 100_105.5 == pytest.approx(said, rel=0.01)


def test_without_a_sweep_the_mean_request_is_that_of_the_load(tmp_path: Path) -> None:
    rows = [f"2023-11-16 18:00:0{at},{prompt},20" for at, prompt in enumerate((100, 300))]
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    replayed = config_of(load={"trace": str(path), "length_scale": 2.0})
    assert mean_request(replayed) == Lengths(400, 40)
    drawn = mean_request(config_of())
    assert drawn.prompt_tokens == pytest.approx(1155, rel=0.03)
    assert drawn.output_tokens == pytest.approx(211, rel=0.03)
