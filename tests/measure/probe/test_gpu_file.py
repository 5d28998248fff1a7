from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from steppe.measure.probe.gpu_file import (
    Board,
    Probed,
    RestDraw,
    Sourced,
    gpu_document,
    gpu_text,
    measured_rates,
    nominal_rates,
)
from steppe.measure.probe.probe import ProbeFit, ProbeWindow
from steppe.roofline.files import read_gpu_spec

WINDOWS = [
    ProbeWindow("copy", 900, 0.8e12, 0.0, 150.0),
    ProbeWindow("copy", 1800, 0.9e12, 0.0, 200.0),
    ProbeWindow("matmul", 900, 1e11, 6e13, 200.0),
]
BOARD = Board("NVIDIA Some", "measured", 24 << 30, 9, 300.0, 300.0, (300, 1050, 1800))
FIT = ProbeFit(4e-11, (900, 1800), (3e-13, 5e-13), (80.0, 110.0), 0.012)
REST = RestDraw(30.0, 20.0, 1800)
PROBED = Probed(BOARD, REST, measured_rates(WINDOWS, [], 1800), FIT)
LINK, LEANING = Sourced(450e9, "given: --link"), Sourced("h100", "nearest architecture")


def _document(probed: Probed = PROBED) -> dict[str, Any]:
    return gpu_document("some", probed, LINK, LEANING)


def test_compute_that_throttled_at_the_highest_clock_is_scaled_from_the_best_below() -> None:
    rates = measured_rates(WINDOWS, [], 1800)
    assert rates.half_flops.value == pytest.approx(1.2e14)
    assert rates.half_flops.source == "measured: matmul at 900 MHz, scaled to 1800 MHz"


def test_bandwidth_is_the_best_that_a_probe_reached() -> None:
    bandwidth = measured_rates(WINDOWS, [], 1800).bandwidth_bps
    assert (bandwidth.value, bandwidth.source) == (0.9e12, "measured: copy at 1800 MHz")


def test_fp8_is_measured_where_probed_and_marked_otherwise() -> None:
    probed = measured_rates(WINDOWS, [ProbeWindow("matmul fp8", 1800, 0.0, 2e14, 280.0)], 1800)
    assert probed.fp8_flops == Sourced(2e14, "measured: matmul fp8 at 1800 MHz")
    plain = measured_rates(WINDOWS, [], 1800)
    assert plain.fp8_flops == Sourced(plain.half_flops.value, "not probed: the 16-bit rate")


def test_the_file_is_read_back_as_it_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(gpu_text(_document(), BOARD.card))
    gpu = read_gpu_spec(path)
    assert (gpu.name, gpu.coefficients, gpu.memory_bytes) == ("some", "h100", 24 << 30)
    assert (gpu.bandwidth_bps, gpu.half_flops, gpu.link_bps) == (0.9e12, 1.2e14, 450e9)
    assert (gpu.power_limit_w, gpu.bare_w, gpu.context_w) == (300.0, 30.0, 20.0)
    assert (gpu.lowest_mhz, gpu.highest_mhz, gpu.step_mhz) == (300, 1800, 750.0)
    assert (gpu.joules_per_byte, gpu.joules_per_flop, gpu.static_w) == (4e-11, 5e-13, 110.0)


@given(st.floats(1e-13, 1e-10), st.floats(1e-14, 1e-11), st.floats(1, 500))
def test_text_keeps_six_digits_of_any_energy(per_byte: float, per_flop: float, w: float) -> None:
    fit = ProbeFit(per_byte, (1800,), (per_flop,), (w,), 0.0)
    read = yaml.safe_load(gpu_text(_document(replace(PROBED, fit=fit)), BOARD.card))
    assert read["joules_per_byte"]["value"] == pytest.approx(per_byte, rel=1e-5)
    assert read["joules_per_flop"]["value"] == pytest.approx(per_flop, rel=1e-5)
    assert read["static_w"]["value"] == pytest.approx(w, rel=1e-5)


def test_every_number_has_its_source() -> None:
    document = _document()
    texts = {"name", "energy_source"}
    assert all(entry["source"] for key, entry in document.items() if key not in texts)
    assert [row["static_w"] for row in document["by_clock"]["rows"]] == [80.0, 110.0]


def test_a_measured_file_is_not_marked_emulated() -> None:
    assert "mulated" not in gpu_text(_document(), BOARD.card)


def test_an_emulated_file_is_marked_in_its_name_its_head_and_its_rates() -> None:
    rates = nominal_rates(1e12, 1e14, 2e14, "round numbers")
    board = replace(BOARD, energy_source="emulated")
    document = _document(replace(PROBED, board=board, rates=rates))
    assert document["name"] == "some (emulated)"
    assert document["energy_source"] == "emulated"
    for key in ("bandwidth_bps", "half_flops", "fp8_flops"):
        assert document[key]["source"].startswith("nominal: round numbers")
    assert "measured" not in gpu_text(document, board.card)


def test_a_lowered_power_limit_is_named_in_the_source() -> None:
    document = _document(replace(PROBED, board=replace(BOARD, enforced_w=250.0)))
    assert document["power_limit_w"]["value"] == 300.0
    assert "250 W in force" in document["power_limit_w"]["source"]


def test_without_a_table_of_clocks_the_probed_clock_is_the_only_one() -> None:
    document = _document(replace(PROBED, board=replace(BOARD, clocks_mhz=())))
    assert document["lowest_mhz"] == document["highest_mhz"]
    assert document["highest_mhz"]["value"] == 1800
    assert "no table of clocks" in document["highest_mhz"]["source"]


def test_a_draw_that_may_belong_to_another_process_is_marked() -> None:
    document = _document(replace(PROBED, rest=replace(REST, caveat="; not alone")))
    assert document["bare_w"]["source"].endswith("; not alone")
    assert document["context_w"]["source"].endswith("; not alone")


@pytest.mark.parametrize(
    ("architecture", "coefficients", "fp8"),
    [
        (None, "h100", False),
        (7, "h100", False),
        (8, "h100", True),
        (9, "h100", True),
        (10, "b200", True),
        (13, "b200", True),
        (0xFFFFFFFF, "h100", False),
    ],
)
def test_the_architecture_decides_coefficients_and_fp8(
    architecture: int | None, coefficients: str, fp8: bool
) -> None:
    board = replace(BOARD, architecture=architecture)
    assert (board.coefficients, board.has_fp8) == (coefficients, fp8)
