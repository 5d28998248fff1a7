from __future__ import annotations

import numpy as np
import pytest

from steppe.load.arrivals import Arrival
from steppe.load.prompts import WORDS, shared_prefix, write_prompt


@pytest.mark.parametrize(("tokens", "words"), [(-5, 1), (0, 1), (1, 1), (144, 144)])
def test_a_prompt_has_a_word_a_token_and_at_least_one(tokens: int, words: int) -> None:
    text = write_prompt(np.random.default_rng(0), tokens)
    assert len(text.split(" ")) == words
    assert set(text.split(" ")) <= set(WORDS)


def test_a_prompt_depends_on_its_seed_alone() -> None:
    first, again, other = (write_prompt(np.random.default_rng(seed), 40) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_prompts_begin_with_as_much_of_the_shared_text_as_is_cached() -> None:
    arrivals = [Arrival(0.0, 10, 1, cached_tokens=cached) for cached in (0, 4, 7)]
    prefix = shared_prefix(0, arrivals)
    assert len(prefix) == 7
    whole = write_prompt(np.random.default_rng(1), 10, prefix).split(" ")
    part = write_prompt(np.random.default_rng(2), 10, prefix[:4]).split(" ")
    assert len(whole) == len(part) == 10
    assert whole[:4] == part[:4]
    assert whole[:7] == prefix
    assert whole[4:] != part[4:]


def test_a_prompt_has_a_word_of_its_own_after_its_prefix() -> None:
    prefix = shared_prefix(0, [Arrival(0.0, 9, 1, cached_tokens=8)])
    assert write_prompt(np.random.default_rng(1), 5, prefix).split(" ")[:4] == prefix[:4]
    assert len(write_prompt(np.random.default_rng(1), 0, prefix).split(" ")) == 1


def test_no_word_is_listed_twice() -> None:
    assert len(WORDS) == len(set(WORDS))
