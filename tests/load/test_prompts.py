from __future__ import annotations

import numpy as np
import pytest

from steppe.load.prompts import WORDS, write_prompt


@pytest.mark.parametrize(("tokens", "words"), [(-5, 1), (0, 1), (1, 1), (144, 144)])
def test_a_prompt_has_a_word_a_token_and_at_least_one(tokens: int, words: int) -> None:
    text = write_prompt(np.random.default_rng(0), tokens)
    assert len(text.split(" ")) == words
    assert set(text.split(" ")) <= set(WORDS)


def test_a_prompt_depends_on_its_seed_alone() -> None:
    first, again, other = (write_prompt(np.random.default_rng(seed), 40) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_no_word_is_listed_twice() -> None:
    assert len(WORDS) == len(set(WORDS))
