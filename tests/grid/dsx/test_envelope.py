from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fixtures.dsx import NOW_S, set_target

from steppe.grid.dsx.envelope import (
    LARGEST_BYTES,
    MessageError,
    next_trace,
    parse_envelope,
    seconds_of,
    time_of,
)
from steppe.grid.dsx.load_target import LoadTarget

JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@pytest.fixture
def fields() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(set_target(LoadTarget(1.0)).payload)
    return found


def test_what_is_written_is_read(fields: dict[str, Any]) -> None:
    payload = json.dumps(fields).encode()
    assert json.loads(parse_envelope(payload).to_bytes()) == fields
    assert parse_envelope(payload).time_s == NOW_S


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("specversion", "1.0", "specversion: asked for 1.0.2, found '1.0'"),
        ("id", "7", "id: asked for a UUID of version 4, found '7'"),
        ("source", "//grid/v1/isv/a/b", "source: asked for //grid/v1/<role>/<identifier>"),
        ("source", "//grid/v2/isv/a", "source: asked for //grid/v1/<role>/<identifier>"),
        ("time", "2026-12-01T12:00:00", "time: asked for a time as 2026-12-01T12:00:00Z"),
        ("time", "2026-02-30T12:00:00Z", "time: asked for a time"),
        ("time", "0001-01-01T00:00:00+23:59", "time: asked for a time"),
        ("time", "9999-12-31T23:59:59-23:59", "time: asked for a time"),
        ("datacontenttype", "text/plain", "datacontenttype: asked for application/json"),
        ("traceparent", "00-1-2-3", "traceparent: asked for a W3C trace context"),
        ("correlationid", "x", "correlationid: asked for a UUID of version 4"),
        ("data", {"targets": []}, "data: asked for 1 to"),
        ("type", "a\nb", "type: asked for 1 to 128 characters"),
    ],
)
def test_a_wrong_attribute_is_one_line(
    fields: dict[str, Any], name: str, value: object, found: str
) -> None:
    with pytest.raises(MessageError) as error:
        parse_envelope(json.dumps(fields | {name: value}).encode())
    assert str(error.value).startswith(found)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "time", "data", "subject"])
def test_a_missing_attribute_is_refused(fields: dict[str, Any], name: str) -> None:
    del fields[name]
    with pytest.raises(MessageError, match=f"{name}: asked for"):
        parse_envelope(json.dumps(fields).encode())


def test_a_message_that_is_too_large_is_refused() -> None:
    with pytest.raises(MessageError, match="bytes at most"):
        parse_envelope(b" " * (LARGEST_BYTES + 1))


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(["id", "time", "data", "source", "correlationid"]), value=JSON)
def test_whatever_stands_in_a_message_is_read_or_refused(name: str, value: object) -> None:
    fields = json.loads(set_target(LoadTarget(1.0)).payload) | {name: value}
    with contextlib.suppress(MessageError):
        assert isinstance(parse_envelope(json.dumps(fields).encode()).time_s, float)


@settings(max_examples=40, deadline=None)
@given(payload=st.binary(max_size=40))
def test_bytes_that_are_no_message_are_refused(payload: bytes) -> None:
    with pytest.raises(MessageError):
        parse_envelope(payload)


def test_times_go_and_come_back_to_the_millisecond() -> None:
    assert time_of(NOW_S + 0.25) == "2026-12-01T12:00:00.250Z"
    assert seconds_of("time", "2026-12-01T20:00:00.25+08:00") == NOW_S + 0.25


def test_an_answer_is_part_of_the_trace_of_its_cause() -> None:
    parent = next_trace(None)
    child = next_trace(parent)
    assert child[:35] == parent[:35]
    assert child != parent
