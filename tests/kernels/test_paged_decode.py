from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from steppe_kernels.interpreting import device
from steppe_kernels.paged_decode import (
    BLOCK_TOKENS,
    LEAST_ROWS,
    DecodeShape,
    PagedCache,
    decode_reference,
    decode_workload,
    paged_decode,
)

ODD = DecodeShape(sequences=3, length=150, page_size=5, query_heads=6, kv_heads=2, size=40)
EVEN = DecodeShape(sequences=2, length=64, page_size=16, query_heads=4, kv_heads=4, size=64)
ONE = DecodeShape(sequences=1, length=1, page_size=1, query_heads=1, kv_heads=1, size=1)


def cache_of(shape: DecodeShape, dtype: torch.dtype, rng: torch.Generator) -> PagedCache:
    """Pages in random order, with three that belong to nobody and hold NaN."""
    each = -(-shape.length // shape.page_size)
    count = shape.sequences * each + 3
    order = torch.randperm(count, generator=rng)
    pages = (count, shape.page_size, shape.kv_heads, shape.size)
    key, value = (torch.randn(pages, generator=rng).to(dtype) for _ in range(2))
    key[order[-3:]], value[order[-3:]] = float("nan"), float("nan")
    lengths = torch.randint(0, shape.length + 1, (shape.sequences,), generator=rng)
    lengths[0] = shape.length
    tables = order[:-3].view(shape.sequences, each).int()
    return PagedCache(*(t.to(device()) for t in (key, value, tables, lengths.int())))


@pytest.mark.parametrize(
    ("dtype", "share"), [(torch.float32, None), (torch.float16, 2**-10), (torch.bfloat16, 2**-7)]
)
@pytest.mark.parametrize("shape", [ODD, EVEN, ONE])
def test_attention_is_within_the_stated_tolerance(
    dtype: torch.dtype, share: float | None, shape: DecodeShape, rng: torch.Generator
) -> None:
    cache = cache_of(shape, dtype, rng)
    heads = (shape.sequences, shape.query_heads, shape.size)
    q = torch.randn(heads, generator=rng).to(dtype).to(device())
    out = torch.full_like(q, float("nan"))
    paged_decode(q, cache, out, 0.3)
    wanted = decode_reference(q, cache, 0.3)
    bound = 2e-5 if share is None else share * cache.value_pages.nan_to_num().abs().max().item()
    assert (out.cpu().double() - wanted).abs().max().item() <= bound


def test_a_sequence_without_cached_tokens_gets_zeros(rng: torch.Generator) -> None:
    cache = cache_of(EVEN, torch.float32, rng)
    cache.lengths.zero_()
    q = torch.randn(2, 4, 64, generator=rng).to(device())
    out = torch.full_like(q, float("nan"))
    paged_decode(q, cache, out, 1.0)
    assert torch.equal(out, torch.zeros_like(out))


def test_scores_of_minus_infinity_have_no_weight(rng: torch.Generator) -> None:
    cache = cache_of(ODD, torch.float32, rng)
    q = torch.rand(3, 2 * LEAST_ROWS, 40, generator=rng).to(device()) + 0.1
    first = cache.tables[0].long()[: 2 * BLOCK_TOKENS // ODD.page_size]
    cache.key_pages[first] = float("-inf")
    out = torch.full_like(q, float("nan"))
    paged_decode(q, cache, out, 0.3)
    assert (out.cpu().double() - decode_reference(q, cache, 0.3)).abs().max().item() <= 2e-5


def test_heads_that_do_not_share_the_cache_evenly_are_refused(rng: torch.Generator) -> None:
    cache = cache_of(EVEN, torch.float32, rng)
    q = torch.zeros(2, 6, 64)
    with pytest.raises(ValueError, match=r"found q \(2, 6, 64\)"):
        paged_decode(q, cache, torch.empty_like(q), 1.0)


@pytest.mark.parametrize("strided", ["q", "out", "key_pages", "value_pages", "tables", "lengths"])
def test_tensors_with_strides_are_refused(strided: str, rng: torch.Generator) -> None:
    cache = cache_of(EVEN, torch.float32, rng)
    q = torch.zeros(2, 4, 64, device=device())
    tensors = {"q": q, "out": torch.empty_like(q)} | {
        name: getattr(cache, name) for name in ("key_pages", "value_pages", "tables", "lengths")
    }
    given = tensors[strided]
    tensors[strided] = torch.stack([given, given], -1)[..., 0]  # every second value of a storage
    q, out = tensors.pop("q"), tensors.pop("out")
    with pytest.raises(ValueError, match="asked for contiguous tensors, found strides"):
        paged_decode(q, PagedCache(**tensors), out, 1.0)


@pytest.mark.parametrize("short", ["tables", "lengths"])
def test_a_sequence_without_a_row_of_pages_or_a_length_is_refused(
    short: str, rng: torch.Generator
) -> None:
    cache = cache_of(EVEN, torch.float32, rng)
    q = torch.zeros(2, 4, 64, device=device())
    with pytest.raises(ValueError, match="for each of 2 sequences"):
        paged_decode(
            q, replace(cache, **{short: getattr(cache, short)[:1]}), torch.empty_like(q), 1.0
        )


def test_keys_and_values_of_two_dtypes_are_refused(rng: torch.Generator) -> None:
    cache = cache_of(EVEN, torch.float32, rng)
    q = torch.zeros(2, 4, 64, device=device())
    with pytest.raises(ValueError, match="one dtype"):
        paged_decode(
            q, replace(cache, value_pages=cache.value_pages.half()), torch.empty_like(q), 1.0
        )


def test_the_workload_counts_keys_and_values_of_every_cached_token() -> None:
    shape = DecodeShape(2, 33, 16, 4, 2, 32)
    workload = decode_workload(shape)
    workload.launch()
    assert workload.bytes_per_launch == 2 * 33 * 2 * (2 * 32) * 2
    assert workload.flop_per_launch == 2 * 33 * 4 * (4 * 32)
