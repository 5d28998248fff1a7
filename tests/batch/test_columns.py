from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from tests.fixtures.batch_gateway import FakeGateway, answer_with, completion, refusal

from steppe.batch.columns import Pipeline, answers_of, read_columns
from steppe.batch.row import BadRow, Row, make_row
from steppe.batch.rows.options import RowOptions
from steppe.batch.runner.settings import RunnerSettings

CHAT = "/v1/chat/completions"


def pipeline(gateway: FakeGateway, place: str = "", **options: Any) -> Pipeline:
    settings = RunnerSettings(gateway.url, stop_grace_s=0.2, retry_pause_s=0.05)
    return Pipeline(settings, RowOptions(model="m", **options), place)


def test_each_row_gets_its_answer_in_its_place(gateway: FakeGateway) -> None:
    texts = [f"text {number}" for number in range(20)]
    columns: dict[str, list[Any]] = {"key": list(range(20)), "text": texts}
    found = answers_of(columns, pipeline(gateway, column="text"))
    assert set(gateway.seen) == set(texts)
    assert found["generated_text"] == ["aaa"] * 20
    assert found["custom_id"] == [f"row-{number}" for number in range(20)]
    assert found["error"] == [None] * 20
    assert found["energy_j"] == [2.0] * 20
    assert found["output_tokens"] == [3] * 20
    assert orjson.loads(found["response"][0])["model"] == "m"


def test_a_row_that_fails_does_not_stop_the_others(gateway: FakeGateway) -> None:
    gateway.answers["bad"] = [answer_with(lambda: refusal(400, "too_long"))]
    found = answers_of({"prompt": ["good", "bad", None]}, pipeline(gateway, endpoint=CHAT))
    assert found["error"][0] is None
    assert found["status"][:2] == [200, 400]
    assert "asked for" in found["error"][2]
    assert found["generated_text"][1:] == [None, None]


def test_a_batch_that_comes_again_is_not_sent_again(gateway: FakeGateway, tmp_path: Path) -> None:
    kept = pipeline(gateway, str(tmp_path / "jobs"), column="text")
    first = answers_of({"text": ["a", "b"]}, kept)
    assert answers_of({"text": ["a", "b"]}, kept) == first
    assert gateway.seen.total() == 2
    answers_of({"text": ["b", "a"]}, kept)
    assert gateway.seen.total() == 4


def test_rows_that_were_read_as_requests_are_sent_as_they_are(gateway: FakeGateway) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "seed": 4}
    rows: list[Row | BadRow] = [make_row(0, "mine", CHAT, body), BadRow(1, "row-1", "line 2: torn")]
    sent: list[dict[str, Any]] = []

    async def keep(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        sent.append(body)
        return web.json_response(completion())

    gateway.answers["hello"] = [keep]
    found = answers_of(read_columns(rows), pipeline(gateway))
    assert sent == [body]
    assert found["custom_id"] == ["mine", "row-1"]
    assert found["error"] == [None, "line 2: torn"]


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [({"choices": [{"text": " and"}]}, " and"), ({"data": [{"embedding": [0.5]}]}, [0.5])],
)
def test_the_text_of_a_completion_and_an_embedding_are_found(
    gateway: FakeGateway, answer: dict[str, Any], wanted: Any
) -> None:
    gateway.answers["once"] = [answer_with(lambda: web.json_response(answer | {"model": "m"}))]
    found = answers_of({"text": ["once"]}, pipeline(gateway, column="text"))
    assert found["generated_text"] == [wanted]


def test_a_batch_without_rows_is_not_sent(gateway: FakeGateway) -> None:
    assert answers_of({"text": []}, pipeline(gateway, column="text")) == {}
    assert not gateway.seen
