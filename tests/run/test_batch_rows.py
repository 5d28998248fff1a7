from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.batch_gateway import FakeGateway, answer_with, in_a_thread, refusal

import steppe.batch
from steppe.errors import InputChangedError, UsageError


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with in_a_thread(FakeGateway()) as running:
        yield running


TEXTS = [f"text {number}" for number in range(20)]


def chat(text: str) -> dict[str, Any]:
    return {"custom_id": text, "messages": [{"role": "user", "content": text}]}


def test_texts_become_chats_and_their_answers_come_in_order(gateway: FakeGateway) -> None:
    answers = list(steppe.batch.run(TEXTS, url=gateway.url, in_order=True, max_tokens=9))
    assert [answer.number for answer in answers] == list(range(20))
    assert {(answer.text, answer.ok, answer.output_tokens) for answer in answers} == {
        ("aaa", True, 3)
    }
    assert sum(answer.energy_j for answer in answers) == 40.0


def test_a_row_that_fails_has_its_reason(gateway: FakeGateway) -> None:
    gateway.answers["text 1"] = [answer_with(lambda: refusal(400, "invalid_value"))]
    answers = steppe.batch.run([chat("text 0"), chat("text 1"), {}], url=gateway.url)
    found = {answer.custom_id: answer for answer in answers}
    assert found["text 0"].ok
    assert found["text 1"].error == "status 400: asked for a row, found invalid_value"
    assert "asked for one of messages, prompt" in found["row-2"].error


def test_a_job_that_was_left_goes_on_where_it_was(gateway: FakeGateway, tmp_path: Path) -> None:
    rows, place = [chat(text) for text in TEXTS], tmp_path / "job"
    first = steppe.batch.run(rows, url=gateway.url, job=place, outstanding=2)
    seen = [next(first).custom_id for _ in range(3)]
    first.close()  # type: ignore[attr-defined]
    answers = list(steppe.batch.run(rows, url=gateway.url, job=place))
    assert sorted(answer.custom_id for answer in answers) == sorted(TEXTS)
    assert all(gateway.seen[text] == 1 for text in seen)
    before = sum(gateway.seen.values())
    again = list(steppe.batch.run(rows, url=gateway.url, job=place))
    assert len(again) == 20
    assert sum(gateway.seen.values()) == before


def test_a_job_goes_on_with_its_own_rows_only(gateway: FakeGateway, tmp_path: Path) -> None:
    place = tmp_path / "job"
    list(steppe.batch.run([chat("text 0")], url=gateway.url, job=place))
    with pytest.raises(InputChangedError, match="asked to go on with the same input"):
        list(steppe.batch.run([chat("text 1")], url=gateway.url, job=place))
    with pytest.raises(UsageError, match="asked to go on with other options"):
        list(steppe.batch.run([chat("text 0")], url=gateway.url, job=place, max_tokens=1))


def test_rows_may_be_a_file(gateway: FakeGateway, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join(json.dumps(chat(text)) for text in TEXTS))
    answers = list(steppe.batch.run(path, url=gateway.url))
    assert sorted(answer.custom_id for answer in answers) == sorted(TEXTS)


def test_the_first_answers_come_before_the_last_row_is_made(gateway: FakeGateway) -> None:
    came = threading.Event()

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(600):
            yield chat(f"text {number}")
        assert came.wait(50), "answers come while rows are made"
        yield chat("the last")

    ids = []
    for answer in steppe.batch.run(rows(), url=gateway.url):
        ids.append(answer.custom_id)
        came.set()
    assert len(ids) == 601


def test_an_error_of_the_rows_ends_the_job(gateway: FakeGateway) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield chat("text 0")
        raise LookupError("no more rows")

    with pytest.raises(LookupError, match="no more rows"):
        list(steppe.batch.run(rows(), url=gateway.url))


def test_bad_arguments_are_one_line(gateway: FakeGateway) -> None:
    with pytest.raises(UsageError, match="asked for one of url and config, found both or none"):
        next(steppe.batch.run(TEXTS))
    with pytest.raises(UsageError, match="asked for model x, found m"):
        next(steppe.batch.run(TEXTS, url=gateway.url, model="x"))
