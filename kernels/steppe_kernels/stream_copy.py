"""Streaming copy: holds the memory at its bandwidth.

Formula: `target[i] = source[i]` for `0 <= i < count`. Any dtype and count; contiguous.
Equals `copy_reference` (`torch.Tensor.clone`) bit for bit: the elements move as integers.
Traffic: `2 * count * itemsize` bytes a launch, one half read and one half written. No
floating-point operation.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from steppe_kernels.interpreting import device
from steppe_kernels.probe import Workload, wait_for_device

BLOCK = 8192
PROBE_BYTES = 1 << 30
"""Far more than the 50 MB of L2 cache of an H100, so that every byte comes from memory."""

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}


@triton.jit
def _copy(source, target, count, block: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = at < count
    tl.store(target + at, tl.load(source + at, mask=inside), mask=inside)


def stream_copy(source: torch.Tensor, target: torch.Tensor) -> None:
    """Copy `source` into `target`.

    Raises:
        ValueError: They differ in shape or dtype, are not contiguous, or what they hold is yet to
            be conjugated or negated (`torch.Tensor.is_conj`, `is_neg`).
    """
    if source.shape != target.shape or source.dtype != target.dtype:
        raise ValueError(
            f"asked for two tensors alike, found {source.dtype} {tuple(source.shape)}"
            f" and {target.dtype} {tuple(target.shape)}"
        )
    if not (source.is_contiguous() and target.is_contiguous()):
        raise ValueError("asked for contiguous tensors, found strides")
    if any(tensor.is_conj() or tensor.is_neg() for tensor in (source, target)):
        raise ValueError("asked for tensors as they lie in memory, found a conjugate or a negative")
    words, places = (
        tensor.view(-1).view(_INTEGERS[tensor.itemsize]) for tensor in (source, target)
    )
    count = words.numel()
    if count:
        _copy[(triton.cdiv(count, BLOCK),)](words, places, count, BLOCK, num_warps=8)


def copy_reference(source: torch.Tensor) -> torch.Tensor:
    """Return what `stream_copy` leaves in its target."""
    return source.clone()


def copy_workload(nbytes: int = PROBE_BYTES) -> Workload:
    """Return a copy of `nbytes` bytes on this device."""
    words = nbytes // 4
    source = torch.arange(words, dtype=torch.int32, device=device())
    target = torch.empty_like(source)
    return Workload(
        name="stream_copy",
        launch=lambda: stream_copy(source, target),
        wait=wait_for_device,
        bytes_per_launch=2.0 * source.nbytes,
        flop_per_launch=0.0,
    )
