"""Attention of decode over a paged KV cache: gather-bound, like an engine's decode step.

Formula, for sequence s and query head h of the group that shares KV head g:
`out[s, h] = softmax(scale * q[s, h] . K)  V`, where row t of K and V, `t < lengths[s]`, is
`pages[tables[s, t // page_size], t % page_size, g]`.
Shapes: q and out (sequences, query heads, size); key and value pages (pages, page size, KV heads,
size); tables (sequences, most pages of one) int32; lengths (sequences,) int32. Query heads are a
multiple of KV heads; page size, head size and lengths are free; a length of 0 gives zeros. All
contiguous.
Dtypes: bfloat16, float16 or float32 (all the same); sums and softmax in float32.
Equals `decode_reference` (float64, dense) within 2e-5 for float32, and within 2^-7 of the largest
value for bfloat16 (2^-10 for float16), whose weights and results are rounded.
Work: `4 * size * query heads` FLOP and `2 * size * KV heads * itemsize` bytes a cached token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from steppe_kernels.interpreting import device, must_raise
from steppe_kernels.probe import Workload, wait_for_device

BLOCK_TOKENS = 64
LEAST_ROWS = 16
"""The fewest rows that `tl.dot` takes."""


@triton.jit
def _fold(state, score, value):  # type: ignore[no-untyped-def]
    # The running softmax of Milakov and Gimelshein (2018): sums so far, to the highest score.
    highest, weight_sum, total = state
    higher = tl.maximum(highest, tl.max(score, 1))
    # Where no score is finite yet, -inf less itself would be no number.
    base = tl.where(higher == float("-inf"), 0.0, higher)
    shrink = tl.exp(highest - base)
    weight = tl.exp(score - base[:, None])
    weight_sum = weight_sum * shrink + tl.sum(weight, 1)
    total = total * shrink[:, None]
    total = tl.dot(weight.to(value.dtype), value, total, input_precision="ieee")
    return higher, weight_sum, total


@triton.jit
def _decode(  # type: ignore[no-untyped-def]  # noqa: PLR0917
    q,
    key_pages,
    value_pages,
    tables,
    lengths,
    out,
    table_width,
    page_size,
    scale,
    group: tl.constexpr,
    size: tl.constexpr,
    block_rows: tl.constexpr,
    block_size: tl.constexpr,
    block_tokens: tl.constexpr,
    raised: tl.constexpr,
):
    sequence, kv_head, kv_heads = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    row, column = tl.arange(0, block_rows), tl.arange(0, block_size)
    query_at = ((sequence * kv_heads + kv_head) * group + row)[:, None] * size + column[None, :]
    query_in = (row < group)[:, None] & (column < size)[None, :]
    query = tl.load(q + query_at, mask=query_in, other=0.0)
    if raised:
        query = query.to(tl.float32)
    length = tl.load(lengths + sequence)
    highest = tl.full((block_rows,), float("-inf"), dtype=tl.float32)
    weight_sum = tl.zeros((block_rows,), dtype=tl.float32)
    total = tl.zeros((block_rows, block_size), dtype=tl.float32)
    for start in range(0, length, block_tokens):
        token = start + tl.arange(0, block_tokens)
        inside = token < length
        entry = tables + sequence * table_width + token // page_size
        page = tl.load(entry, mask=inside, other=0).to(tl.int64)
        cached = (page * page_size + token % page_size) * kv_heads + kv_head
        at = cached[:, None] * size + column[None, :]
        readable = inside[:, None] & (column < size)[None, :]
        key = tl.load(key_pages + at, mask=readable, other=0.0)
        value = tl.load(value_pages + at, mask=readable, other=0.0)
        if raised:
            key, value = key.to(tl.float32), value.to(tl.float32)
        score = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        score = tl.where(inside[None, :], score, float("-inf"))
        highest, weight_sum, total = _fold((highest, weight_sum, total), score, value)
    total = total / tl.where(weight_sum > 0, weight_sum, 1.0)[:, None]
    tl.store(out + query_at, total.to(out.dtype.element_ty), mask=query_in)


@dataclass(frozen=True, slots=True, eq=False)
class PagedCache:
    """Keys and values in pages, with the pages of each sequence; shapes as above."""

    key_pages: torch.Tensor
    value_pages: torch.Tensor
    tables: torch.Tensor
    lengths: torch.Tensor


def paged_decode(q: torch.Tensor, cache: PagedCache, out: torch.Tensor, scale: float) -> None:
    """Attend from one query token of each sequence to its cached tokens.

    The values of tables and lengths are not checked, because that would wait for the device: no
    length may exceed the pages of its row, and every page must exist.

    Raises:
        ValueError: Shapes or dtypes do not fit, or a tensor is not contiguous.
    """
    _check(q, cache, out)
    sequences, heads, size = q.shape
    pages = cache.key_pages
    group = heads // pages.shape[2]
    _decode[(sequences, pages.shape[2])](
        q,
        pages,
        cache.value_pages,
        cache.tables,
        cache.lengths,
        out,
        table_width=cache.tables.shape[1],
        page_size=pages.shape[1],
        scale=scale,
        group=group,
        size=size,
        block_rows=max(LEAST_ROWS, triton.next_power_of_2(group)),
        block_size=max(LEAST_ROWS, triton.next_power_of_2(size)),
        block_tokens=BLOCK_TOKENS,
        raised=must_raise(q.dtype),
        num_stages=3,
        num_warps=4,
    )


def _check(q: torch.Tensor, cache: PagedCache, out: torch.Tensor) -> None:
    sequences, heads, size = q.shape
    pages, values = cache.key_pages, cache.value_pages
    _, _, kv_heads, cached_size = pages.shape
    is_alike = q.shape == out.shape and pages.shape == values.shape and size == cached_size
    if not is_alike or heads % kv_heads or not q.dtype == pages.dtype == values.dtype:
        raise ValueError(
            f"asked for heads of one size, a multiple of them for the query, and one dtype; found"
            f" q {tuple(q.shape)} {q.dtype}, pages {tuple(pages.shape)} {pages.dtype}"
        )
    rows = (cache.tables.shape[:-1], cache.lengths.shape)
    if rows != ((sequences,), (sequences,)):
        raise ValueError(
            f"asked for a row of pages and a length for each of {sequences} sequences, found"
            f" tables {tuple(cache.tables.shape)}, lengths {tuple(cache.lengths.shape)}"
        )
    tensors = (q, pages, values, cache.tables, cache.lengths, out)
    if not all(tensor.is_contiguous() for tensor in tensors):
        raise ValueError("asked for contiguous tensors, found strides")


def decode_reference(q: torch.Tensor, cache: PagedCache, scale: float) -> torch.Tensor:
    """Return the result of `paged_decode` in float64, from gathered dense rows."""
    out = torch.zeros(q.shape, dtype=torch.float64)
    group = q.shape[1] // cache.key_pages.shape[2]
    for sequence, length in enumerate(cache.lengths.tolist()):
        if length == 0:
            continue
        pages = cache.tables[sequence].long()
        key, value = (
            each[pages].flatten(0, 1)[:length].double().repeat_interleave(group, dim=1)
            for each in (cache.key_pages, cache.value_pages)
        )
        score = torch.einsum("hd,thd->ht", q[sequence].double(), key) * scale
        out[sequence] = torch.einsum("ht,thd->hd", score.softmax(-1), value)
    return out


@dataclass(frozen=True, slots=True)
class DecodeShape:
    """The shape of a decode step; the heads are those of Llama-3.1-8B.

    Attributes:
        sequences: Sequences that decode at once.
        length: Cached tokens of each.
        page_size: Tokens of a page.
        query_heads: Heads of the query.
        kv_heads: Heads of the cache.
        size: Values of one head.
    """

    sequences: int = 128
    length: int = 2048
    page_size: int = 16
    query_heads: int = 32
    kv_heads: int = 8
    size: int = 128


def decode_workload(
    shape: DecodeShape | None = None, dtype: torch.dtype = torch.bfloat16
) -> Workload:
    """Return a decode step over randomly scattered pages on this device."""
    shape = shape or DecodeShape()
    each = -(-shape.length // shape.page_size)
    order = torch.randperm(shape.sequences * each, device=device(), dtype=torch.int64)
    pages = (shape.sequences * each, shape.page_size, shape.kv_heads, shape.size)
    key_pages, value_pages = (
        torch.randn(pages, device=device(), dtype=torch.float32).to(dtype) for _ in range(2)
    )
    tables = order.to(torch.int32).view(shape.sequences, each)
    lengths = torch.full((shape.sequences,), shape.length, dtype=torch.int32, device=device())
    cache = PagedCache(key_pages, value_pages, tables, lengths)
    heads = (shape.sequences, shape.query_heads, shape.size)
    q = torch.randn(heads, device=device(), dtype=torch.float32).to(dtype)
    out = torch.empty_like(q)
    cached = shape.sequences * shape.length
    return Workload(
        name=f"paged_decode {shape.sequences}x{shape.length}",
        launch=lambda: paged_decode(q, cache, out, shape.size**-0.5),
        wait=wait_for_device,
        bytes_per_launch=2.0 * cached * shape.kv_heads * shape.size * dtype.itemsize,
        flop_per_launch=4.0 * cached * shape.query_heads * shape.size,
    )
