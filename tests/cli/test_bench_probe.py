from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.fixtures.virtual_gpu import VirtualGpu

from steppe.cli import main
from steppe.measure.probe.gpu_file import Probed, Sourced, gpu_document, gpu_text
from steppe.roofline.files import read_gpu_spec, read_roofline
from steppe.roofline.hardware import GpuSpec
from steppe.run.probe_gpu import (
    EMULATED_RATES,
    ProbeControls,
    ProbePlan,
    ProbeSubject,
    emulated_loads,
    emulated_rates,
    probe_gpu,
)

# The emulated L4 (profiles.c), and the rates of its namesake in configs/gpus.
IDLE_W, CONTEXT_W, STATIC_W, CORE_W, MEM_W = 12, 6, 10, 46, 6
BANDWIDTH_BPS, HALF_FLOPS = 0.3e12, 121e12
LINK, LEANING = Sourced(32e9, "assumed"), Sourced("h100", "nearest architecture")


def probe(card: VirtualGpu, *clocks_mhz: int) -> Probed:
    """Probe a GPU in virtual time."""
    rates = emulated_rates("l4")
    loads = partial(emulated_loads, card.emulator, rates, sleep=card.sleep)
    controls = ProbeControls(card, card.sleep, card.gpu.set_clock_limit)
    return probe_gpu(ProbeSubject(card.gpu, loads, rates), controls, ProbePlan(clocks_mhz, 4.0))


def _written(probed: Probed, path: Path) -> GpuSpec:
    path.write_text(gpu_text(gpu_document("mine", probed, LINK, LEANING), probed.board.card))
    return read_gpu_spec(path)


def test_an_emulated_gpu_becomes_a_file_with_its_own_constants(
    virtual_l4: VirtualGpu, tmp_path: Path
) -> None:
    gpu = _written(probe(virtual_l4, 1020, 2040), tmp_path / "mine.yaml")
    assert gpu.joules_per_byte == pytest.approx(MEM_W / BANDWIDTH_BPS, rel=0.03)
    assert gpu.joules_per_flop == pytest.approx(CORE_W / HALF_FLOPS, rel=0.03)
    assert gpu.static_w == pytest.approx(IDLE_W + STATIC_W, rel=0.03)
    assert gpu.bare_w == pytest.approx(IDLE_W, rel=0.03)
    assert gpu.context_w == pytest.approx(CONTEXT_W, rel=0.03)
    assert (gpu.bandwidth_bps, gpu.half_flops) == (BANDWIDTH_BPS, HALF_FLOPS)
    assert (gpu.lowest_mhz, gpu.highest_mhz, gpu.step_mhz) == (210, 2040, 15)
    assert (gpu.memory_bytes, gpu.power_limit_w) == (24152899584, 72)
    assert gpu.name == "mine (emulated)"


def test_the_frontier_prints_points_of_the_file(virtual_l4: VirtualGpu, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    _written(probe(virtual_l4, 1020, 2040), path)
    ask = ["frontier", "--model", "llama-3.1-8b", "--gpu", str(path), "--clock", "all", "--json"]
    result = CliRunner().invoke(main, ask)
    assert result.exit_code == 0, result.output
    document = json.loads(result.output)
    assert (document["gpu"], document["source"]) == ("mine (emulated)", "modelled")
    assert any(point["pareto"] for point in document["points"])
    assert all(0 < point["draw_w"] <= 72 for point in document["points"])
    assert read_roofline("llama-3.1-8b", path, 1).idle_w(2040) == pytest.approx(18, rel=0.03)


def test_without_a_clock_limit_the_busy_clock_is_recorded(virtual_l4: VirtualGpu) -> None:
    assert virtual_l4.gpu.sm_clock_mhz() < 2040
    assert probe(virtual_l4).fit.clocks_mhz == (2040,)


def test_an_emulated_gpu_without_a_file_gets_round_rates() -> None:
    rates = emulated_rates("p40")
    found = rates.bandwidth_bps, rates.half_flops, rates.fp8_flops
    assert tuple(rate.value for rate in found) == EMULATED_RATES
    assert all("nominal: round numbers" in rate.source for rate in found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "no/such/mine.yaml"], "found no folder no/such"),
        (["--out", "mine.yaml", "--coefficients", "v9"], "asked for v9, found b200, h100"),
        (["--link", "450e9"], "found no --out"),
    ],
)
def test_contradicting_options_are_refused_before_any_probe(
    options: list[str], message: str
) -> None:
    result = CliRunner().invoke(main, ["bench", "probe", "--emulated", "l4", *options])
    assert result.exit_code == 2
    assert message in result.output
