from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steppe_kernels.interpreting import INTERPRETING, device
from steppe_kernels.matmul import (
    intensity,
    matmul,
    matmul_reference,
    matmul_workload,
    rows_for_intensity,
    tile_for,
)

FP8 = torch.float8_e4m3fn
DTYPES = (torch.float32, torch.float16, torch.bfloat16, FP8)


def random(rows: int, columns: int, dtype: torch.dtype, rng: torch.Generator) -> torch.Tensor:
    return torch.randn(rows, columns, generator=rng).to(dtype).to(device())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 1, 1), (3, 5, 7), (17, 66, 33), (33, 70, 129), (131, 67, 40)]
)
def test_the_product_is_within_the_stated_tolerance(
    dtype: torch.dtype, m: int, n: int, k: int, rng: torch.Generator
) -> None:
    if dtype == FP8 and not INTERPRETING and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no fp8")
    a, w = random(m, k, dtype, rng), random(n, k, dtype, rng)
    out = torch.float32 if dtype == torch.float32 else torch.bfloat16
    c = torch.full((m, n), float("nan"), dtype=out, device=device())
    matmul(a, w, c)
    wanted = matmul_reference(a, w)
    of_sums = 1e-3 if dtype == FP8 and not INTERPRETING else 2e-6
    of_result = 2**-23 if out == torch.float32 else 2**-7
    bound = of_result * wanted.abs() + of_sums * matmul_reference(a.float().abs(), w.float().abs())
    assert ((c.double() - wanted).abs() <= bound).all()


def test_shapes_and_strides_that_do_not_fit_are_refused() -> None:
    a, w, c = torch.zeros(2, 3), torch.zeros(4, 3), torch.zeros(2, 4)
    with pytest.raises(ValueError, match=r"found \(2, 3\) torch.float32, \(4, 3\)"):
        matmul(a, w, c.T)
    with pytest.raises(ValueError, match="contiguous"):
        matmul(torch.zeros(3, 2).T, w, c)


@given(
    wanted=st.floats(1.0, 400.0), width=st.sampled_from([4096, 8192]), size=st.sampled_from([1, 2])
)
@settings(max_examples=50)
def test_the_rows_reach_the_requested_intensity(wanted: float, width: int, size: int) -> None:
    rows = rows_for_intensity(wanted, width, width, size)
    below, above = (intensity(r, width, width, size) for r in (rows - 0.5, rows + 0.5))  # type: ignore[arg-type]
    assert below <= wanted * (1 + 1e-9) or rows == 1
    assert above >= wanted * (1 - 1e-9)


def test_an_intensity_out_of_reach_is_refused() -> None:
    with pytest.raises(ValueError, match="asked for 100 FLOP/byte, found at most 32"):
        rows_for_intensity(100.0, 64, 64, 2)


def test_a_small_gpu_gets_a_tile_that_fits_its_shared_memory() -> None:
    for rows in (1, 17, 64, 65, 4096):
        for itemsize in (1, 2, 4):
            for shared_bytes in (0, 99 << 10, 227 << 10):
                tile = tile_for(rows, itemsize, shared_bytes)
                assert tile.shared_bytes(itemsize) <= max(shared_bytes, 80 << 10)


def test_the_workload_counts_all_its_weights() -> None:
    workload = matmul_workload(2.0, width=64, weight_bytes=3 * 64 * 64 * 2)
    workload.launch()
    rows = rows_for_intensity(2.0, 64, 64, 2)
    assert workload.flop_per_launch == 3 * 2 * rows * 64 * 64
    assert workload.flop_per_launch / workload.bytes_per_launch == pytest.approx(2.0, rel=0.25)
