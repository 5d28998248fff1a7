from __future__ import annotations

from typing import Any

import orjson
import pytest

from steppe.batch.row import BadRow, Row
from steppe.batch.rows.build import row_of
from steppe.batch.rows.options import CHAT, COMPLETIONS, EMBEDDINGS, RowOptions
from steppe.errors import UsageError

WITH_MODEL = RowOptions(model="m")
USER = [{"role": "user", "content": "hello"}]


def made(record: Any, options: RowOptions = WITH_MODEL) -> tuple[str, str, dict[str, Any]]:
    """Return custom id, endpoint and body of a row."""
    row = row_of(7, record, options)
    assert isinstance(row, Row), row
    return row.custom_id, row.endpoint, orjson.loads(row.body)


def reason(record: Any, options: RowOptions = WITH_MODEL) -> str:
    row = row_of(7, record, options, "line 8")
    assert isinstance(row, BadRow)
    assert row.number == 7
    return row.reason


def line(**fields: Any) -> dict[str, Any]:
    body = {"model": "own", "messages": USER}
    return {"custom_id": "a", "method": "POST", "url": CHAT, "body": body, **fields}


def test_a_batch_line_stays_as_it_is() -> None:
    assert made(line(), RowOptions()) == ("a", CHAT, {"model": "own", "messages": USER})


def test_the_model_of_the_options_is_for_all_rows() -> None:
    assert made(line())[2]["model"] == "m"


@pytest.mark.parametrize(
    ("record", "endpoint", "body"),
    [
        ({"prompt": "hello"}, COMPLETIONS, {"prompt": "hello"}),
        ({"prompt": [1, 2]}, COMPLETIONS, {"prompt": [1, 2]}),
        ({"messages": USER, "top_p": 0.5}, CHAT, {"messages": USER, "top_p": 0.5}),
        ({"text": "hello", "label": 3}, CHAT, {"messages": USER}),
        ({"input": ["a", "b"]}, EMBEDDINGS, {"input": ["a", "b"]}),
    ],
)
def test_fields_become_a_request(record: Any, endpoint: str, body: dict[str, Any]) -> None:
    assert made(record) == ("row-7", endpoint, {"model": "m", **body})


def test_a_column_becomes_one_message_of_a_chat() -> None:
    options = RowOptions(model="m", column="question", id_column="id", system="be brief")
    name, endpoint, body = made({"id": 12, "question": "hello", "prompt": "no"}, options)
    assert (name, endpoint) == ("12", CHAT)
    assert body["messages"] == [{"role": "system", "content": "be brief"}, *USER]


def test_a_column_of_a_table_is_no_parameter() -> None:
    record = {"text": "hello", "n": 900, "model": "gpt", "seed": "maize"}
    for options in (
        WITH_MODEL,
        RowOptions(model="m", column="text"),
        RowOptions(model="m", template="{{ text }}"),
    ):
        assert made(record, options)[2] == {"model": "m", "messages": USER}
    assert "asked for a model, found none" in reason(record, RowOptions())


def test_a_template_reads_the_fields() -> None:
    options = RowOptions(
        model="m",
        endpoint=COMPLETIONS,
        template="{{ a }}{% for b in bs %} {{ b }}{% endfor %}",
    )
    assert made({"a": "x", "bs": [1, 2]}, options)[2]["prompt"] == "x 1 2"
    assert "'bs' is undefined" in reason({"a": "x"}, options)
    hostile = RowOptions(model="m", template="{{ a.__class__.__mro__ }}")
    assert "unsafe" in reason({"a": "x"}, hostile)


def test_a_broken_template_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="asked for a Jinja template, found in line 1"):
        row_of(0, {"a": "x"}, RowOptions(model="m", template="{% if %}"))


def test_parameters_of_a_row_win() -> None:
    options = RowOptions(
        model="m", sampling={"temperature": 0.0, "max_tokens": 9}, schema={"type": "object"}
    )
    _, _, body = made({"prompt": "hello", "temperature": 1.0, "seed": None}, options)
    assert (body["temperature"], body["max_tokens"]) == (1.0, 9)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert "seed" not in body
    assert made({"input": "hello"}, options)[2] == {"model": "m", "input": "hello"}


def test_an_answer_of_a_row_never_streams() -> None:
    body = {"model": "m", "prompt": "x", "stream": True, "stream_options": {"include_usage": True}}
    assert made(line(url=COMPLETIONS, body=body))[2] == {"model": "m", "prompt": "x"}


def test_the_key_depends_on_id_endpoint_and_body_only() -> None:
    first = row_of(1, line(body={"model": "m", "messages": USER, "n": 1}), RowOptions())
    second = row_of(2, line(body={"n": 1, "messages": USER, "model": "m"}), RowOptions())
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert first.key == second.key
    other = row_of(1, line(custom_id="b", body=orjson.loads(first.body)), RowOptions())
    assert isinstance(other, Row)
    assert other.key != first.key


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ([1], "asked for a JSON object, found a list"),
        ({"question": "x", "id": 1}, "found only question, id"),
        ({}, "found nothing"),
        ({"prompt": ""}, "asked for prompt for /v1/completions, found none"),
        ({"prompt": 3}, "asked for a text or messages, found a number"),
        ({"messages": [3]}, "found a list"),
        ({"messages": [{"content": "x"}]}, "messages with a role, found an object"),
        ({"prompt": "x", "custom_id": ""}, "found a text of 0 characters"),
        ({"prompt": "x", "custom_id": "a\0"}, "found a text of 2 characters"),
        ({"prompt": "\ud800"}, "found:"),
        (line(custom_id=None), "asked for a custom_id of 1 to 512 characters, found none"),
        (line(method="GET"), "asked for method POST, found 'GET'"),
        (line(url="/v1/images"), "found '/v1/images'"),
        (line(body="x"), "asked for an object in body, found a text of 1 characters"),
        (line(body={"model": "m"}), "asked for messages for /v1/chat/completions, found none"),
    ],
)
def test_what_is_no_request_is_a_bad_row(record: Any, found: str) -> None:
    assert found in reason(record)
    assert reason(record).startswith("line 8: ")


def test_a_row_needs_a_model() -> None:
    assert "asked for a model, found none" in reason({"prompt": "x"}, RowOptions())


def test_all_rows_of_a_job_may_have_one_endpoint() -> None:
    options = RowOptions(model="m", endpoint=CHAT)
    assert made({"prompt": "hello"}, options)[1:] == (CHAT, {"model": "m", "messages": USER})
    assert f"asked for url {CHAT}, found {COMPLETIONS}" in reason(line(url=COMPLETIONS), options)
    embeddings = RowOptions(model="m", endpoint=EMBEDDINGS)
    assert "found messages" in reason({"messages": USER}, embeddings)


def test_options_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="asked for endpoint /v1/images"):
        RowOptions(endpoint="/v1/images")
    with pytest.raises(UsageError, match="one excludes the other"):
        RowOptions(column="a", template="b")
