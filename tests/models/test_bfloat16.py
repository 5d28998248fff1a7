from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.models.bfloat16 import to_bfloat16, write_safetensors

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def as_float(bits: int) -> float:
    (value,) = struct.unpack("<f", struct.pack("<I", bits << 16))
    # The number that infinity stands for when it comes to which neighbour is nearer.
    return float(value) if np.isfinite(value) else float(np.copysign(2.0**128, value))


def convert(value: float) -> int:
    return int(to_bfloat16(np.array([value], np.float32))[0])


@given(FLOATS)
def test_the_result_is_the_nearest_neighbour_and_ties_go_to_the_even_one(value: float) -> None:
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    inner, outer = bits >> 16, (bits >> 16) + 1
    to_inner, to_outer = abs(value - as_float(inner)), abs(as_float(outer) - value)
    nearest = inner if to_inner < to_outer else outer
    if to_inner == to_outer:
        nearest = inner if inner % 2 == 0 else outer
    assert convert(value) == nearest


@given(st.integers(0, 0xFFFF).filter(lambda bits: (bits & 0x7F80) != 0x7F80))
def test_a_number_that_is_a_bfloat16_already_stays_as_it_is(bits: int) -> None:
    assert convert(as_float(bits)) == bits


@pytest.mark.parametrize(
    ("value", "bits"),
    [(1.0, 0x3F80), (-2.0, 0xC000), (np.inf, 0x7F80), (-np.inf, 0xFF80), (3.4e38, 0x7F80)],
)
def test_known_numbers_have_their_known_bits(value: float, bits: int) -> None:
    assert convert(value) == bits


@pytest.mark.parametrize("bits", [0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFC00000])
def test_nan_stays_nan(bits: int) -> None:
    nan = np.array([bits], np.uint32).view(np.float32)
    result = int(to_bfloat16(nan)[0])
    assert result & 0x7F80 == 0x7F80
    assert result & 0x007F != 0


def test_the_safetensors_library_reads_back_what_was_written(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    tensors = {
        "matrix": np.arange(6, dtype=np.uint16).reshape(2, 3),
        "vector": np.array([0x3F80], np.uint16),
    }
    write_safetensors(tmp_path / "two.safetensors", tensors)
    read = dict(safetensors.deserialize((tmp_path / "two.safetensors").read_bytes()))
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert read[name]["dtype"] == "BF16"
        assert tuple(read[name]["shape"]) == tensor.shape
        assert bytes(read[name]["data"]) == tensor.tobytes()
