from __future__ import annotations

from typing import Any

import orjson

from steppe.batch.output.lines import output_line
from steppe.batch.row import RowResult


def line(result: RowResult) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(output_line(result, "batch_1"))
    return found


def test_an_answer_stands_in_the_line_as_it_came() -> None:
    result = RowResult(3, "a", 200, "req-1", b'{"b": 1.50, "a": "\\u00e9"}', energy_j=2.5)
    text = output_line(result, "batch_1")
    assert b'"body":{"b": 1.50, "a": "\\u00e9"}}' in text
    assert text.count(b"\n") == 1
    found = orjson.loads(text)
    assert found["response"]["status_code"] == 200
    assert found["response"]["request_id"] == "req-1"
    assert found["error"] is None
    assert found["steppe"]["energy_j"] == 2.5


def test_a_row_without_an_answer_has_an_error() -> None:
    found = line(RowResult(3, "a", error_code="batch_expired", error="too late"))
    assert found["response"] is None
    assert found["error"] == {"code": "batch_expired", "message": "too late"}


def test_an_answer_that_is_an_error_is_a_response() -> None:
    found = line(RowResult(3, "a", 400, body=b'{"error": {"message": "no"}}'))
    assert found["error"] is None
    assert found["response"]["body"] == {"error": {"message": "no"}}


def test_a_body_of_several_lines_or_without_json_stays_one_line() -> None:
    assert line(RowResult(3, "a", 502, body=b"<html>\n\xff"))["response"]["body"] == "<html>\n�"
    text = output_line(RowResult(3, "a", 200, body=b'{\n "a": 1\n}'), "batch_1")
    assert text.count(b"\n") == 1
    assert orjson.loads(text)["response"]["body"] == {"a": 1}


def test_the_same_result_gives_the_same_bytes() -> None:
    result = RowResult(3, "a", 200, body=b"{}")
    assert output_line(result, "batch_1") == output_line(result, "batch_1")
    assert line(result)["id"] != line(RowResult(4, "a", 200, body=b"{}"))["id"]
