from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from steppe.errors import UsageError
from steppe.sites.settlement.sent import Sent

SENT = Sent("r.0", "hohhot", "lab", "m", 100, 7, 1_000, 2_000, "served", 200, 5_000)


def test_a_note_is_read_from_the_json_that_it_was_written_to() -> None:
    assert Sent.read(orjson.loads(orjson.dumps(SENT.values))) == SENT


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"end": "eaten"}, "sent.end: asked for one of served, refused, .* found 'eaten'"),
        ({"request": ""}, "sent.request: asked for 1 to 128 characters, found ''"),
        ({"tenant": "a\nb"}, "sent.tenant: asked for 1 to 128 characters"),
        ({"most_uj": -1}, "sent.most_uj: asked for 0 to 9007199254740992, found -1"),
        ({"output_tokens": 1.0}, "sent.output_tokens: asked for int, found 1.0"),
        ({"mood": "good"}, "sent: asked for its 11 fields, found mood amiss"),
    ],
)
def test_a_note_that_is_amiss_is_refused_with_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Sent.read({**SENT.values, **changes})


def test_only_an_answer_of_200_that_came_whole_needs_a_receipt() -> None:
    assert SENT.was_served
    assert not replace(SENT, status=400).was_served
    assert not replace(SENT, end="lost").was_served
    assert replace(SENT, end="lost").may_have_work
    assert not replace(SENT, end="refused", status=503).may_have_work
    assert not replace(SENT, end="unreachable", status=0).may_have_work
