from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from steppe.gateway.answer_so_far import AnswerSoFar, Rejoin
from steppe.gateway.continuable import PlainStream
from steppe.gateway.stream import Usage

PLAIN = PlainStream(wants_ids=False, wants_usage=True)
tokens = st.lists(
    st.tuples(st.integers(0, 200_000), st.text(st.characters(exclude_categories=["Cs"]))),
    min_size=1,
    max_size=12,
)


def event(choice: dict[str, Any], created: int = 1, **more: Any) -> bytes:
    whole = {"id": f"c-{created}", "created": created, "model": "m", "choices": [choice], **more}
    text = json.dumps(whole, separators=(",", ":"), ensure_ascii=False)
    return b"data: " + text.encode() + b"\n\n"


def chunk(ids: list[int] | None, text: str, created: int = 1) -> bytes:
    delta = {"index": 0, "delta": {"content": text}, "finish_reason": None, "token_ids": ids}
    return event(delta, created)


def role(ids: list[int] | None, created: int = 1) -> bytes:
    delta = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    return event(delta, created, prompt_token_ids=ids)


@given(tokens)
def test_the_client_gets_the_bytes_of_a_stream_without_token_ids(
    answer: list[tuple[int, str]],
) -> None:
    so_far = AnswerSoFar(PLAIN)
    got = so_far.feed(role([5, 6]))
    got += so_far.feed(b"".join(chunk([token], text) for token, text in answer))
    assert got == role(None) + b"".join(chunk(None, text) for _, text in answer)
    assert (so_far.prompt, so_far.output_tokens) == (b"5,6", len(answer))
    assert so_far.output == b",".join(str(token).encode() for token, _ in answer)
    assert so_far.texts.get("content", 0) == sum(len(text) for _, text in answer)
    assert so_far.usage == Usage(2, None, len(answer))
    assert so_far.is_known


@given(tokens, st.integers(0, 12), st.integers(0, 5))
def test_what_a_client_has_is_left_out_however_much_was_held_back(
    answer: list[tuple[int, str]], cut: int, held: int
) -> None:
    """The first engine may have held characters back, and the second sends all at once."""
    cut = min(cut, len(answer) - 1)
    so_far = AnswerSoFar(PLAIN)
    so_far.feed(role([5, 6]))
    first = "".join(text for _, text in answer[:cut])
    first = first[: max(0, len(first) - held)]
    ids = [token for token, _ in answer]
    so_far.feed(chunk(ids[:cut], first))
    rejoin = Rejoin(so_far)
    whole = "".join(text for _, text in answer)
    text = "".join(text for _, text in answer[: cut + 1])
    again = [role([5, 6], 2), chunk(ids[: cut + 1], text, 2)]
    again += [chunk([token], text, 2) for token, text in answer[cut + 1 :]]
    got = b"".join(so_far.feed(rejoin.feed(line)) for line in again if line)
    events = [json.loads(line[len("data: ") :]) for line in got.split(b"\n\n") if line]
    rest = "".join(e["choices"][0]["delta"].get("content", "") for e in events)
    assert first + rest == whole
    assert all((e["id"], e["created"]) == ("c-1", 1) for e in events)
    assert all("role" not in e["choices"][0]["delta"] for e in events)
    assert so_far.output == ",".join(map(str, ids)).encode()


def test_text_without_its_token_ids_is_noted() -> None:
    so_far = AnswerSoFar(PLAIN)
    so_far.feed(role([5]))
    so_far.feed(chunk([7], "a"))
    assert so_far.is_known
    so_far.feed(chunk(None, "a"))
    assert not so_far.is_known


def test_the_end_is_made_up_once_all_text_has_passed() -> None:
    so_far = AnswerSoFar(PLAIN)
    so_far.feed(role([5, 6, 7]) + chunk([1, 2], "a"))
    usage, done, rest = so_far.closing().split(b"\n\n")
    assert json.loads(usage[len("data: ") :])["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
    }
    assert (done, rest) == (b"data: [DONE]", b"")
    assert AnswerSoFar(PlainStream(False, wants_usage=False)).closing() == b"data: [DONE]\n\n"
