from __future__ import annotations

import pytest

from gpu.data_sheets import data_sheet


@pytest.mark.parametrize(
    ("card", "bandwidth"),
    [
        ("NVIDIA H100 80GB HBM3", 3.35e12),
        ("NVIDIA H100 NVL", 3.9e12),
        ("NVIDIA H100 PCIe", 2.0e12),
        ("NVIDIA H200", 4.8e12),
        ("NVIDIA A100-SXM4-80GB", 2.039e12),
        ("NVIDIA A100 80GB PCIe", 1.935e12),
        ("NVIDIA A100-SXM4-40GB", 1.555e12),
        ("NVIDIA L4", 300e9),
    ],
)
def test_a_data_sheet_is_found_by_the_name_of_the_card(card: str, bandwidth: float) -> None:
    sheet = data_sheet(card)
    assert sheet is not None
    assert sheet.bytes_per_s == bandwidth


def test_an_unknown_card_and_fp8_on_an_a100_have_no_peak() -> None:
    assert data_sheet("NVIDIA L40S") is None
    a100 = data_sheet("NVIDIA A100-SXM4-80GB")
    assert a100 is not None
    assert a100.flop_per_s(8) is None
    assert a100.flop_per_s(16) == 312e12
