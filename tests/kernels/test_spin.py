from __future__ import annotations

import numpy as np
import pytest
import torch

from steppe_kernels.interpreting import device
from steppe_kernels.spin import BLOCK, spin, spin_reference, spin_workload


@pytest.mark.parametrize("count", [1, BLOCK, 2 * BLOCK + 45])
@pytest.mark.parametrize("steps", [0, 1, 37])
def test_the_words_are_those_of_the_reference(count: int, steps: int, rng: torch.Generator) -> None:
    words = torch.randint(-(2**31), 2**31 - 1, (count,), generator=rng).int()
    out = torch.full_like(words, -1).to(device())
    spin(words.to(device()), out, steps)
    assert np.array_equal(out.cpu().numpy(), spin_reference(words.numpy(), steps))


def test_the_reference_is_xorshift32_as_published() -> None:
    first = spin_reference(np.array([2463534242], dtype=np.uint32).view(np.int32), 1)
    assert first.view(np.uint32)[0] == 723471715


def test_words_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found torch\.int64"):
        spin(torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int32), 1)


@pytest.mark.parametrize("strided", [0, 1])
def test_words_with_strides_are_refused(strided: int) -> None:
    words = [torch.zeros(6, dtype=torch.int32) for _ in range(2)]
    words[strided] = torch.zeros(12, dtype=torch.int32)[::2]
    with pytest.raises(ValueError, match="asked for contiguous tensors, found strides"):
        spin(words[0], words[1], 1)


def test_the_workload_counts_no_work() -> None:
    workload = spin_workload(steps=2)
    workload.launch()
    assert (workload.bytes_per_launch, workload.flop_per_launch) == (0.0, 0.0)
