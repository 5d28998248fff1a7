from __future__ import annotations

from typing import Any

import pytest

from steppe.gateway.sequences import MOST_SEQUENCES, sequences

CHAT = [{"role": "user", "content": "wind"}]


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        ({}, 1),
        ({"messages": CHAT}, 1),
        ({"messages": CHAT, "n": 3}, 3),
        ({"messages": CHAT, "n": None}, 1),
        ({"messages": CHAT, "n": -4}, 1),
        ({"messages": CHAT, "n": "many"}, 1),
        ({"messages": CHAT, "n": 2**70}, MOST_SEQUENCES),
        ({"messages": CHAT, "n": 4, "use_beam_search": True}, 4),
        ({"messages": [CHAT, CHAT], "n": 2}, 4),
        ({"messages": []}, 1),
        ({"prompt": "wind"}, 1),
        ({"prompt": "wind", "best_of": 5}, 5),
        ({"prompt": ["wind", "sun"], "n": 3}, 6),
        ({"prompt": [1, 2, 3], "n": 2}, 2),
        ({"prompt": [[1, 2], [3]]}, 2),
        ({"input": ["wind", "sun", "rain"]}, 3),
        ({"input": [{"role": "user", "content": "wind"}]}, 1),
    ],
)
def test_each_sample_of_each_prompt_takes_a_place(request_: dict[str, Any], wanted: int) -> None:
    assert sequences(request_) == wanted
