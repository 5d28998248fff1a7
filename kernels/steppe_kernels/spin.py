"""Idle spin: keeps the multiprocessors awake, without memory traffic and matrix units.

Formula, a lane (xorshift32, Marsaglia 2003, doi:10.18637/jss.v008.i14), `steps` times:
`x ^= x << 13; x ^= x >> 17; x ^= x << 5`, on 32-bit words. Shapes: `seeds` and `out` (count,),
int32, contiguous. Equals `spin_reference` bit for bit. Its draw is that of a GPU which is clocked
up and issues instructions, the base on which bytes and FLOP come.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl

from steppe_kernels.interpreting import INTERPRETING, device
from steppe_kernels.probe import Workload, wait_for_device

BLOCK = 128
WORDS_PER_PROCESSOR = 16 * BLOCK


@triton.jit
def _spin(seeds, out, count, steps, block: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < count
    word = tl.load(seeds + at, mask=inside, other=1).to(tl.uint32, bitcast=True)
    for _ in range(steps):
        word = word ^ (word << 13)
        word = word ^ (word >> 17)
        word = word ^ (word << 5)
    tl.store(out + at, word.to(tl.int32, bitcast=True), mask=inside)


def spin(seeds: torch.Tensor, out: torch.Tensor, steps: int) -> None:
    """Run `steps` steps of the generator on each word of `seeds`.

    Raises:
        ValueError: They are not int32 of one shape or not contiguous, or `steps` is negative.
    """
    if seeds.shape != out.shape or {seeds.dtype, out.dtype} != {torch.int32} or steps < 0:
        raise ValueError(
            f"asked for int32 words and steps >= 0, found {seeds.dtype} {tuple(seeds.shape)},"
            f" {out.dtype} {tuple(out.shape)} and {steps}"
        )
    if not (seeds.is_contiguous() and out.is_contiguous()):
        raise ValueError("asked for contiguous tensors, found strides")
    count = seeds.numel()
    if count:
        _spin[(triton.cdiv(count, BLOCK),)](seeds, out, count, steps, BLOCK, num_warps=4)


def spin_reference(seeds: npt.NDArray[np.int32], steps: int) -> npt.NDArray[np.int32]:
    """Return what `spin` leaves in `out`."""
    word = seeds.view(np.uint32).copy()
    for _ in range(steps):
        word ^= word << np.uint32(13)
        word ^= word >> np.uint32(17)
        word ^= word << np.uint32(5)
    return word.view(np.int32)


def spin_workload(steps: int = 1 << 16) -> Workload:
    """Return a spin on every multiprocessor of this device; counts neither bytes nor FLOP."""
    processors = 1 if INTERPRETING else torch.cuda.get_device_properties().multi_processor_count
    count = BLOCK if INTERPRETING else processors * WORDS_PER_PROCESSOR
    seeds = torch.arange(1, count + 1, dtype=torch.int32, device=device())
    out = torch.empty_like(seeds)
    return Workload(
        name="spin",
        launch=lambda: spin(seeds, out, steps),
        wait=wait_for_device,
        bytes_per_launch=0.0,
        flop_per_launch=0.0,
    )
