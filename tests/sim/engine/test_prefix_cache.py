from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from steppe.load.arrivals import Arrival
from steppe.sim.engine.batch import Batch, BatchLimits
from steppe.sim.engine.batch import Sequence as Running
from steppe.sim.engine.energy import EnergyShares
from steppe.sim.engine.prefix_cache import HostCache, Match, PrefixCache
from steppe.sim.request import Request

BLOCK = 10


def batch_of(kv_tokens: int = 1000, host_tokens: int = 0, step: int = 100) -> Batch:
    host = HostCache(host_tokens, load_s=0.001)
    return Batch(BatchLimits(step, step, kv_tokens, host), 8, EnergyShares())


def request_of(number: int, hashes: Sequence[int], output: int = 3, beyond: int = 0) -> Request:
    tokens = BLOCK * len(hashes) + beyond
    arrival = Arrival(0.0, tokens, output, hash_ids=tuple(hashes), block_tokens=BLOCK)
    return Request(number, arrival)


def serve(batch: Batch, *requests: Request) -> int:
    """Serve requests to their end; return the prompt tokens that were computed."""
    batch.waiting += [Running(request) for request in requests]
    computed = 0
    while batch.plan():
        computed += batch.chunk_tokens
        batch.advance(batch.uniform_steps, 0.0)
        assert batch.cached <= batch._engine.kv_tokens
    return computed


def test_blocks_stay_until_their_memory_is_needed_the_end_of_the_oldest_first() -> None:
    cache = PrefixCache()
    cache.hold((1, 2, 3))
    cache.release((1, 2, 3))
    cache.hold((4, 5))
    cache.release((4, 5))
    cache.shrink(4)
    assert cache.match((1, 2, 3)) == Match(2, 0)
    cache.shrink(2)
    assert cache.match((1, 2, 3)) == Match(0, 0)
    assert cache.match((4, 5)) == Match(2, 0)


def test_held_blocks_stay() -> None:
    cache = PrefixCache()
    cache.hold((1, 2))
    cache.hold((1,))
    cache.release((1, 2))
    cache.shrink(0)
    assert cache.match((1, 2)) == Match(1, 0)


def test_blocks_that_left_the_gpu_are_loaded_from_the_host() -> None:
    cache = PrefixCache(host_tokens=3 * BLOCK)
    cache.store((1, 2, 3), BLOCK)
    cache.hold((1,))
    assert cache.match((1, 2, 3)) == Match(3, 2)
    cache.store((7,), BLOCK)
    assert cache.match((1, 2, 3)) == Match(2, 1)


def test_a_prompt_that_was_served_before_computes_its_last_token_only() -> None:
    batch = batch_of()
    assert serve(batch, request_of(1, (1, 2, 3))) == 30
    again = request_of(2, (1, 2, 3))
    assert serve(batch, again) == 1
    assert again.record().cached_tokens == 29


def test_the_next_turn_of_a_conversation_computes_what_is_new() -> None:
    batch = batch_of()
    serve(batch, request_of(1, (1, 2), beyond=4))
    turn = request_of(2, (1, 2, 3, 4))
    assert serve(batch, turn) == 20
    assert turn.record().cached_tokens == 20


def test_running_sequences_push_out_old_blocks() -> None:
    batch = batch_of(kv_tokens=45)
    serve(batch, request_of(1, (1, 2)))
    serve(batch, request_of(2, (3, 4, 5, 6)))
    assert serve(batch, request_of(3, (1, 2))) == 20


def test_blocks_in_host_memory_cost_time_to_load() -> None:
    batch = batch_of(kv_tokens=45, host_tokens=1000)
    serve(batch, request_of(1, (1, 2)))
    serve(batch, request_of(2, (3, 4, 5, 6)))
    assert batch.load_s == 0
    assert serve(batch, request_of(3, (1, 2))) == 1
    assert abs(batch.load_s - 20 * 0.001) < 1e-12


def test_an_engine_that_is_lost_has_an_empty_cache() -> None:
    batch = batch_of(host_tokens=1000)
    serve(batch, request_of(1, (1, 2)))
    batch.drop_all()
    assert batch.prefixes.blocks == 0
    assert serve(batch, request_of(2, (1, 2))) == 20


prompts = st.lists(
    st.tuples(st.lists(st.integers(0, 6), min_size=1, max_size=5, unique=True), st.integers(1, 12)),
    min_size=1,
    max_size=12,
)


@given(prompts=prompts, kv_tokens=st.integers(80, 300), host=st.integers(0, 200))
def test_every_prompt_is_computed_or_cached_and_nothing_stays_held(
    prompts: list[tuple[list[int], int]], kv_tokens: int, host: int
) -> None:
    batch = batch_of(kv_tokens, host, step=40)
    requests = [request_of(n, hashes, output) for n, (hashes, output) in enumerate(prompts)]
    serve(batch, *requests)
    assert all(request.finish == "length" for request in requests)
    assert all(r.cached_tokens < r.arrival.prompt_tokens for r in requests)
    assert batch.cached == 0
    assert not batch.running
    batch.prefixes.shrink(0)
    assert len(batch.prefixes._held) == 0
    assert batch.prefixes.blocks <= host // BLOCK
