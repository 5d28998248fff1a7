from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe.roofline.energy_roofline import EnergyRoofline
from steppe.roofline.files import read_roofline
from steppe.roofline.hardware import ALONE, Host

PLAIN = read_roofline("qwen3-8b", "b200", 1)


def _beside(host: Host) -> EnergyRoofline:
    return EnergyRoofline(PLAIN.model, PLAIN.gpu, PLAIN.tp, PLAIN.calibration, host)


@pytest.mark.parametrize("host", [ALONE, Host(7, 0.0), Host(0, 8000.0)])
def test_neither_neighbours_nor_parsers_crowd_a_host_by_themselves(host: Host) -> None:
    assert host.crowding == 0.0
    assert _beside(host).point(1965, 32, 170, 8000) == PLAIN.point(1965, 32, 170, 8000)


@given(neighbours=st.integers(1, 7), tokens=st.floats(4000.0, 9000.0), batch=st.integers(1, 32))
@settings(max_examples=30, deadline=None)
def test_a_crowded_host_gives_fewer_tokens_at_less_draw(
    neighbours: int, tokens: float, batch: int
) -> None:
    alone = PLAIN.point(1965, batch, 170, tokens)
    crowded = _beside(Host(neighbours, tokens)).point(1965, batch, 170, tokens)
    assert crowded.output_tps < alone.output_tps
    assert crowded.draw_w < alone.draw_w


def test_a_full_host_of_long_answers_is_several_times_slower() -> None:
    alone = PLAIN.point(1965, 8, 170, 8000)
    crowded = _beside(Host(7, 8000.0)).point(1965, 8, 170, 8000)
    assert 3.0 < alone.output_tps / crowded.output_tps < 7.0
