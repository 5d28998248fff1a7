from __future__ import annotations

import pytest
import torch

from steppe_kernels.interpreting import device
from steppe_kernels.stream_copy import BLOCK, copy_reference, copy_workload, stream_copy

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn)
DTYPES = (*FLOATS, torch.int64, torch.complex128)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 13, BLOCK - 1, BLOCK + 1, 3 * BLOCK + 77])
def test_every_element_is_copied_bit_for_bit(
    dtype: torch.dtype, count: int, rng: torch.Generator
) -> None:
    bits = torch.randint(0, 256, (count * dtype.itemsize,), generator=rng, dtype=torch.uint8)
    source = bits.to(device()).view(dtype)
    poisoned = torch.full(((count + 2) * dtype.itemsize,), 0xFF, dtype=torch.uint8, device=device())
    target = poisoned.view(dtype)
    stream_copy(source, target[1 : count + 1])
    wanted = copy_reference(source).view(torch.uint8)
    assert torch.equal(target[1 : count + 1].contiguous().view(torch.uint8), wanted)
    assert (target[[0, -1]].view(torch.uint8) == 0xFF).all()


def test_tensors_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"float32 \(3,\) and torch.float16 \(3,\)"):
        stream_copy(torch.zeros(3), torch.zeros(3, dtype=torch.float16))
    with pytest.raises(ValueError, match="contiguous"):
        stream_copy(torch.zeros(4, 4).T, torch.zeros(4, 4).T)


def test_a_number_without_a_dimension_is_copied() -> None:
    target = torch.zeros((), dtype=torch.complex128, device=device())
    stream_copy(torch.tensor(1 + 2j, dtype=torch.complex128, device=device()), target)
    assert target == 1 + 2j


def test_a_tensor_that_is_not_what_lies_in_memory_is_refused() -> None:
    conjugate = torch.zeros(1, dtype=torch.complex64).conj()
    for view in (conjugate, conjugate.imag):
        with pytest.raises(ValueError, match="as they lie in memory, found a conjugate"):
            stream_copy(view, torch.zeros(1, dtype=view.dtype))


def test_the_workload_counts_a_read_and_a_write() -> None:
    workload = copy_workload(4096)
    workload.launch()
    assert (workload.bytes_per_launch, workload.flop_per_launch) == (8192.0, 0.0)
