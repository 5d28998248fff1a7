"""Matrix product at a chosen arithmetic intensity: holds memory or matrix units at a known rate.

Formula: `c = a @ w.T`, as `torch.nn.Linear` does. Shapes: `a` (m, k), `w` (n, k), `c` (m, n), all
row-major; any positive sizes. Dtypes: a and w bfloat16, float16, float32 or float8_e4m3fn (both
the same); c float32 for float32, else bfloat16. Sums are kept in float32.
Equals `matmul_reference` (float64) within one unit in the last place of c, 2^-7 relative for
bfloat16 (the interpreter truncates where a GPU rounds), plus 2e-6 of `|a| @ |w|.T` for the order of
the sums. The fp8 units of Hopper keep about 14 bits of a sum (DeepSeek-V3 report,
arXiv:2412.19437, section 3.3.2), so fp8 on a GPU only within 1e-3 of `|a| @ |w|.T`.
Work: `2 m n k` FLOP and at least `itemsize (m k + n k) + itemsize_c m n` bytes. Their ratio is the
arithmetic intensity: with few rows it is near `2 m / itemsize`, as in decode, where the weights
are read for every step; `rows_for_intensity` finds the rows for a ratio.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from steppe_kernels.interpreting import INTERPRETING, device, must_raise
from steppe_kernels.probe import Workload, wait_for_device

PROBE_WEIGHT_BYTES = 1 << 29
"""The weights of one sweep, far more than an L2 cache holds: they are read from memory."""
WIDTH = 8192
GROUP_ROWS = 8


@triton.jit
def _tile_place(number, tiles_m, tiles_n, group_rows: tl.constexpr):  # type: ignore[no-untyped-def]
    # Neighbouring programs share rows and columns, so that the L2 cache serves most of the reads.
    first_row = number // (group_rows * tiles_n) * group_rows
    rows_here = min(tiles_m - first_row, group_rows)
    inner = number % (group_rows * tiles_n)
    return first_row + inner % rows_here, inner // rows_here


@triton.jit
def _matmul(  # type: ignore[no-untyped-def]  # noqa: PLR0917
    a,
    w,
    c,
    m,
    n,
    k,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
    group_rows: tl.constexpr,
    raised: tl.constexpr,
):
    tiles_m, tiles_n = tl.cdiv(m, block_m), tl.cdiv(n, block_n)
    tile_m, tile_n = _tile_place(tl.program_id(0), tiles_m, tiles_n, group_rows)
    row, column = tile_m * block_m + tl.arange(0, block_m), tile_n * block_n + tl.arange(0, block_n)
    depth = tl.arange(0, block_k)
    a_at = a + row[:, None].to(tl.int64) * k + depth[None, :]
    w_at = w + column[None, :].to(tl.int64) * k + depth[:, None]
    total = tl.zeros((block_m, block_n), dtype=tl.float32)
    for start in range(0, k, block_k):
        inside = depth < k - start
        left = tl.load(a_at, mask=(row < m)[:, None] & inside[None, :], other=0.0)
        right = tl.load(w_at, mask=inside[:, None] & (column < n)[None, :], other=0.0)
        if raised:
            left, right = left.to(tl.float32), right.to(tl.float32)
        total = tl.dot(left, right, total, input_precision="ieee")
        a_at += block_k
        w_at += block_k
    at = c + row[:, None].to(tl.int64) * n + column[None, :]
    tl.store(at, total.to(c.dtype.element_ty), mask=(row < m)[:, None] & (column < n)[None, :])


@dataclass(frozen=True, slots=True)
class Tile:
    """The tile of one program: block sizes, loads in flight (stages), warps."""

    m: int
    n: int
    k: int
    stages: int
    warps: int

    def shared_bytes(self, itemsize: int) -> int:
        """Return the shared memory of the loads in flight, bytes."""
        return (self.m + self.n) * self.k * itemsize * self.stages


def matmul(a: torch.Tensor, w: torch.Tensor, c: torch.Tensor) -> None:
    """Write `a @ w.T` into `c`.

    Raises:
        ValueError: Shapes or dtypes do not fit, or a tensor is not contiguous.
    """
    (m, k), n = a.shape, w.shape[0]
    if w.shape != (n, k) or c.shape != (m, n) or a.dtype != w.dtype:
        raise ValueError(
            f"asked for (m, k) (n, k) (m, n) and one dtype, found {tuple(a.shape)} {a.dtype},"
            f" {tuple(w.shape)} {w.dtype}, {tuple(c.shape)}"
        )
    if not (a.is_contiguous() and w.is_contiguous() and c.is_contiguous()):
        raise ValueError("asked for contiguous tensors, found strides")
    tile = tile_for(m, a.element_size(), _shared_bytes())
    grid = (triton.cdiv(m, tile.m) * triton.cdiv(n, tile.n),)
    _matmul[grid](
        a,
        w,
        c,
        m,
        n,
        k,
        block_m=tile.m,
        block_n=tile.n,
        block_k=tile.k,
        group_rows=GROUP_ROWS,
        raised=must_raise(a.dtype),
        num_stages=tile.stages,
        num_warps=tile.warps,
    )


def matmul_reference(a: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return `a @ w.T` in float64, the reference of `matmul`."""
    return a.double() @ w.double().T


def tile_for(rows: int, itemsize: int, shared_bytes: int) -> Tile:
    """Return the tile for a number of rows, operand bytes and bytes of shared memory.

    The largest is that of Triton's tutorial 03 for H100; it needs 144 KiB of shared memory.
    """
    depth = 128 // itemsize
    if rows <= 64:
        block_m = 16 if rows <= 16 else 32 if rows <= 32 else 64
        return Tile(block_m, 64, depth, stages=4, warps=4)
    for columns in (256, 128):
        tile = Tile(128, columns, depth, stages=3, warps=8)
        if itemsize < 4 and tile.shared_bytes(itemsize) <= shared_bytes:
            return tile
    return Tile(64, 128, max(16, depth // 2), stages=3, warps=4)


def _shared_bytes() -> int:
    if INTERPRETING:
        return 0
    properties = torch.cuda.get_device_properties()
    # torch before 2.6 does not report it; 99 KiB is the smallest of any GPU since 2020.
    return int(getattr(properties, "shared_memory_per_block_optin", 99 << 10))


def intensity(rows: int, width: int, depth: int, itemsize: int) -> float:
    """Return the FLOP per byte of a product of (rows, depth) by (width, depth), bfloat16 out."""
    moved = itemsize * (rows * depth + width * depth) + 2 * rows * width
    return 2 * rows * width * depth / moved


def rows_for_intensity(flop_per_byte: float, width: int, depth: int, itemsize: int) -> int:
    """Return the rows whose product comes nearest to an arithmetic intensity.

    Solves `intensity(rows) = flop_per_byte` for the rows; at least one.

    Raises:
        ValueError: No number of rows reaches it with this width and depth.
    """
    left = 2 * width * depth - flop_per_byte * (itemsize * depth + 2 * width)
    if left <= 0:
        most = 2 * width * depth / (itemsize * depth + 2 * width)
        raise ValueError(f"asked for {flop_per_byte:g} FLOP/byte, found at most {most:g}")
    return max(1, round(flop_per_byte * itemsize * width * depth / left))


def matmul_workload(
    flop_per_byte: float,
    dtype: torch.dtype = torch.bfloat16,
    width: int = WIDTH,
    weight_bytes: int = PROBE_WEIGHT_BYTES,
) -> Workload:
    """Return products with a sweep of square weights, at an arithmetic intensity.

    One launch sweeps over all the weights, so that none is still in a cache when it is used again.
    """
    itemsize = dtype.itemsize
    rows = rows_for_intensity(flop_per_byte, width, width, itemsize)
    layers = max(1, weight_bytes // (itemsize * width * width))
    a = _random((rows, width), dtype)
    weights = [_random((width, width), dtype) for _ in range(layers)]
    c = torch.empty((rows, width), dtype=torch.bfloat16, device=device())

    def launch() -> None:
        for w in weights:
            matmul(a, w, c)

    flop = 2.0 * rows * width * width * layers
    name = f"matmul {str(dtype).removeprefix('torch.')} {rows}x{width}x{width}"
    moved = flop / intensity(rows, width, width, itemsize)
    return Workload(name, launch, wait_for_device, bytes_per_launch=moved, flop_per_launch=flop)


def fp8_workload(flop_per_byte: float) -> Workload:
    """Return the products of `matmul_workload` with operands in fp8; needs Ada or newer."""
    return matmul_workload(flop_per_byte, torch.float8_e4m3fn)


def _random(shape: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
    """Return random values: zeros would draw less power."""
    return torch.randn(shape, dtype=torch.float32, device=device()).to(dtype)
