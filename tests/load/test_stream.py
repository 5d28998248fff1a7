from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.load.stream import ChatStream, Completed, Failed

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def event(fields: dict[str, Any] | str) -> bytes:
    text = fields if isinstance(fields, str) else json.dumps(fields)
    return f"data: {text}\n\n".encode()


def delta(fields: dict[str, Any], finish: str | None = None) -> bytes:
    return event({"choices": [{"delta": fields, "finish_reason": finish}], "usage": None})


ANSWER = (
    delta({"role": "assistant", "content": ""})
    + b": a comment\n\n"
    + delta({"content": "wind"})
    + delta({"content": ""})
    + delta({"content": " and sun"}, "length")
    + event({"choices": [], "usage": USAGE})
    + event("[DONE]")
)


def end_of(*pieces: bytes) -> Completed | Failed:
    stream = ChatStream()
    for now_s, piece in enumerate(pieces):
        stream.feed(piece, float(now_s))
    return stream.end()


def test_times_and_usage_are_read_and_the_role_is_not_a_token() -> None:
    pieces = ANSWER.split(b"\n\n")
    outcome = end_of(*[piece + b"\n\n" for piece in pieces])
    assert isinstance(outcome, Completed)
    assert (outcome.first_s, outcome.last_s) == (2.0, 4.0)
    assert list(outcome.gaps_s) == [1.0, 1.0]
    assert (outcome.prompt_tokens, outcome.output_tokens, outcome.finish) == (7, 3, "length")


@given(st.lists(st.integers(0, len(ANSWER)), max_size=20))
def test_any_chunk_boundaries_give_the_same_result(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(ANSWER)]
    stream = ChatStream()
    for start, stop in pairwise(edges):
        stream.feed(ANSWER[start:stop], 5.0)
    outcome = stream.end()
    assert isinstance(outcome, Completed)
    assert outcome.output_tokens == 3
    assert list(outcome.gaps_s) == [0.0, 0.0]


def test_a_stream_without_done_has_broken_off() -> None:
    cut = ANSWER.removesuffix(event("[DONE]"))
    assert end_of(cut) == Failed("the stream broke off before [DONE]")


def test_an_error_event_fails_the_request_with_its_message() -> None:
    broken = delta({"content": "wi"}) + event({"error": {"message": "replica lost"}})
    assert end_of(broken) == Failed("error in the stream: replica lost")


def test_an_aborted_answer_is_a_failure_although_it_ends_properly() -> None:
    outcome = end_of(ANSWER.replace(b'"length"', b'"abort"'))
    assert isinstance(outcome, Failed)
    assert "abort" in outcome.message


def test_an_answer_without_usage_is_a_failure() -> None:
    outcome = end_of(ANSWER.replace(b"completion_tokens", b"other_tokens"))
    assert isinstance(outcome, Failed)
    assert "usage" in outcome.message


@pytest.mark.parametrize(
    "text", ["{half", "5", '["choices"]', '{"choices": [1]}', '{"choices": [{"delta": "a"}]}']
)
def test_an_event_of_another_shape_is_a_failure(text: str) -> None:
    outcome = end_of(event(text), ANSWER)
    assert isinstance(outcome, Failed)
    assert text in outcome.message


@pytest.mark.parametrize("usage", ["3", "[3]", '{"completion_tokens": 3}'])
def test_usage_of_another_shape_is_ignored(usage: str) -> None:
    outcome = end_of(ANSWER.replace(json.dumps(USAGE).encode(), usage.encode()))
    assert outcome == Failed("asked for tokens and their usage, found an answer without them")


def test_a_finish_reason_that_is_not_text_is_a_failure() -> None:
    outcome = end_of(ANSWER.replace(b'"length"', b'["length"]'))
    assert outcome == Failed("asked for a finished answer, found finish reason ['length']")
