from __future__ import annotations

import numpy as np

from steppe.load.arrivals import HASH_BLOCK_TOKENS, UNLIMITED, Arrival, LengthLimits
from steppe.load.rates import REAL_DAY, Floats
from steppe.load.sessions import Sessions
from steppe.load.traffics import TRAFFICS

SESSIONS = Sessions(system_prompts=3, system_tokens=1024, going_on=0.6, open_sessions=50)


def turns(count: int, prompt: int = 300, output: int = 200) -> list[Arrival]:
    return [Arrival(float(n), prompt, output) for n in range(count)]


def form(arrivals: list[Arrival], limits: LengthLimits = UNLIMITED) -> tuple[Arrival, ...]:
    return SESSIONS.form(np.random.default_rng(0), arrivals, limits)


def test_a_turn_begins_with_the_prompt_and_the_answer_before_it() -> None:
    lengths = {a.prompt_tokens for a in form(turns(1000))}
    assert {1324, 1824, 2324} <= lengths
    assert all((tokens - 1324) % 500 == 0 for tokens in lengths)


def test_every_prompt_has_a_hash_for_each_of_its_blocks() -> None:
    for arrival in form(turns(1000)):
        assert len(arrival.hash_ids) == -(-arrival.prompt_tokens // HASH_BLOCK_TOKENS)
        assert len(set(arrival.hash_ids)) == len(arrival.hash_ids)


def test_sessions_share_system_prompts_and_turns_share_what_was_computed() -> None:
    seen: set[int] = set()
    hits = blocks = 0
    for arrival in form(turns(2000)):
        hits += len(seen & set(arrival.hash_ids))
        blocks += len(arrival.hash_ids)
        seen |= set(arrival.hash_ids)
    assert {0, 1, 2, 3, 4, 5} <= seen, "three system prompts of two blocks"
    assert 0.5 < hits / blocks < 0.9


def test_no_prompt_exceeds_the_limit() -> None:
    limits = LengthLimits(prompt_tokens=2000)
    formed = form(turns(1000), limits)
    assert max(a.prompt_tokens for a in formed) <= 2000
    assert all(len(a.hash_ids) <= 4 for a in formed)


def test_chats_have_sessions_whose_prompts_fit_the_model() -> None:
    limits = LengthLimits(8000, 2000)
    times_s: Floats = np.arange(3000, dtype=np.float64)
    drawn = TRAFFICS["chats"].requests(np.random.default_rng(1), times_s, REAL_DAY, 1.0, limits)
    assert all(a.hash_ids and a.prompt_tokens <= 8000 for a in drawn)
    assert len({a.hash_ids[0] for a in drawn}) <= 8
