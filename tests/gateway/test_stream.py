from __future__ import annotations

import itertools
import re

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steppe.gateway.stream import (
    ResponseSummary,
    StreamScanner,
    Usage,
    find_error_status,
    summarize,
)


def read_usage(text: bytes) -> Usage | None:
    return summarize(text).usage


def read_finish(text: bytes) -> str | None:
    return summarize(text).finish


def _cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.integers(0, 10_000), max_size=30), crlf=st.booleans())
def test_chunk_boundaries_change_neither_the_bytes_nor_the_summary(
    chat_stream: bytes, places: list[int], crlf: bool
) -> None:
    data = chat_stream.replace(b"\n", b"\r\n") if crlf else chat_stream
    first_text = data.index("Grüß".encode())
    end = b"\r\n\r\n" if crlf else b"\n\n"
    first_text_end = data.index(end, first_text) + len(end)
    scanner, passed, fed, text_at = StreamScanner(), b"", 0, 0
    for chunk in _cut(data, places):
        fed += len(chunk)
        passed += scanner.feed(chunk, now_s=float(fed))
        if not text_at and fed >= first_text_end:
            text_at = fed
    passed += scanner.end(now_s=float(fed))
    assert passed == data
    assert scanner.first_text_s == text_at
    assert scanner.finish == "stop"
    assert scanner.usage == Usage(prompt_tokens=7, cached_tokens=None, output_tokens=3)
    assert scanner.is_done
    assert not scanner.has_error


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(places=st.lists(st.integers(0, 10_000), max_size=10), dies_at=st.integers(0, 10_000))
def test_a_stream_that_breaks_anywhere_ends_with_whole_events(
    chat_stream: bytes, places: list[int], dies_at: int
) -> None:
    sent = chat_stream[: dies_at % len(chat_stream)]
    scanner = StreamScanner()
    passed = b"".join(scanner.feed(chunk, 0.0) for chunk in _cut(sent, places))
    passed += scanner.break_off(b"data: oops\n\n")
    events = passed.split(b"\n\n")
    assert events[-2:] == [b"data: oops", b""]
    assert events[:-2] == chat_stream.split(b"\n\n")[: len(events) - 2]
    assert scanner.has_error


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=10))
def test_bytes_of_any_kind_pass_unchanged(data: bytes, places: list[int]) -> None:
    scanner = StreamScanner()
    passed = [scanner.feed(chunk, 0.0) for chunk in _cut(data, places)]
    assert b"".join(passed) + scanner.end(0.0) == data


def test_the_role_only_event_is_not_the_first_token(chat_stream: bytes) -> None:
    scanner = StreamScanner()
    role, text = re.findall(rb"data: .*\n\n", chat_stream)[:2]
    scanner.feed(role, 1.0)
    assert scanner.first_text_s is None
    scanner.feed(text, 2.0)
    assert scanner.first_text_s == 2.0


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"index":0,"text":"a","finish_reason":null}]}',
        b'data: {"choices":[{"delta":{"reasoning":"hm"}}]}',
        b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{"}}]}}]}',
        b'event: response.output_text.delta\ndata: {"delta":"a"}',
        b'event: content_block_delta\ndata: {"delta":{"type":"thinking_delta","thinking":"a"}}',
        b'data: {"choices":[{"index":0,"text":"","finish_reason":"length"}]}',
        b'event: response.completed\ndata: {"response":{"status":"completed"}}',
    ],
)
def test_each_api_has_its_first_token(event: bytes) -> None:
    scanner = StreamScanner()
    scanner.feed(b'data: {"choices":[{"index":0,"text":"","finish_reason":null}]}\n\n', 1.0)
    scanner.feed(event + b"\n\n", 2.0)
    assert scanner.first_text_s == 2.0


def test_a_null_usage_is_ignored() -> None:
    scanner = StreamScanner()
    scanner.feed(b'data: {"usage":{"prompt_tokens":3,"completion_tokens":1}}\n\n', 0.0)
    scanner.feed(b'data: {"usage":null}\n\n', 0.0)
    assert scanner.usage == Usage(3, None, 1)
    assert read_usage(b'{"usage": null}') is None


def test_usage_is_read_from_each_api() -> None:
    chat = b'{"usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": null}}'
    responses = (
        b'{"response": {"usage": {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 4},'
        b' "output_tokens": 2}}}'
    )
    embedding = b'{"usage": {"prompt_tokens": 5, "total_tokens": 5}}'
    assert read_usage(chat) == Usage(5, None, 2)
    assert read_usage(responses) == Usage(5, 4, 2)
    assert read_usage(embedding) == Usage(5, None, 0)


def test_prompt_tokens_of_a_message_include_cache_reads_and_writes() -> None:
    usage = (
        b'{"usage": {"input_tokens": 5, "cache_read_input_tokens": 32,'
        b' "cache_creation_input_tokens": 16, "output_tokens": 2}}'
    )
    assert read_usage(usage) == Usage(53, 32, 2)
    scanner = StreamScanner()
    scanner.feed(b"event: message_delta\ndata: " + usage + b"\n\n", 0.0)
    assert scanner.usage == Usage(53, 32, 2)
    assert read_usage(b'{"usage": {"input_tokens": 5, "cache_read_input_tokens": null}}') == (
        Usage(5, None, 0)
    )


def test_the_last_usage_counts_when_each_event_carries_one() -> None:
    scanner = StreamScanner()
    for count in range(1, 4):
        scanner.feed(b'data: {"usage":{"prompt_tokens":9,"completion_tokens":%d}}\n\n' % count, 0.0)
    assert scanner.usage == Usage(9, None, 3)


def test_a_broken_usage_object_is_ignored() -> None:
    assert read_usage(b'{"usage": {"prompt_tokens": 5, ') is None
    assert read_usage(b'{"usage": {"cost": 5}}') is None


def test_an_error_event_is_found_and_one_inside_text_is_not() -> None:
    scanner = StreamScanner()
    scanner.feed(
        rb'data: {"choices":[{"delta":{"content":"\"error\" data: [DONE]"}}]}' + b"\n\n", 0
    )
    assert not scanner.has_error
    assert not scanner.is_done
    scanner.feed(b'data: {"error": {"message": "boom"}}\n\n', 0.0)
    assert scanner.has_error


def test_an_event_name_without_its_data_is_held_back() -> None:
    scanner = StreamScanner()
    assert scanner.feed(b"event: ping\ndata: {}\n\nevent: response.created\n", 0.0) == (
        b"event: ping\ndata: {}\n\n"
    )
    assert scanner.break_off(b"data: oops\n\n") == b"data: oops\n\n"


NAMED = "event: {0}\ndata: {1}\n\n"


@pytest.mark.parametrize(
    ("stream", "outcome"),
    [
        (NAMED.format("error", '{"type":"error","error":{"message":"dead"}}'), "error"),
        ('data: {"type": "error", "error": {"message": "dead"}}\n\n', "error"),
        (NAMED.format("response.failed", '{"response":{"status":"failed"}}'), "error"),
        (NAMED.format("response.completed", '{"response":{"status":"completed"}}'), "stop"),
        (
            NAMED.format(
                "response.completed",  # vLLM has this name for all that ends
                '{"response":{"incomplete_details":{"reason":"max_output_tokens"}}}',
            ),
            "length",
        ),
        (
            NAMED.format(
                "response.incomplete",
                '{"response":{"incomplete_details":{"reason":"content_filter"}}}',
            ),
            "content_filter",
        ),
        (
            NAMED.format("message_delta", '{"delta":{"stop_reason":"max_tokens"}}')
            + NAMED.format("message_stop", '{"type":"message_stop"}'),
            "length",
        ),
        (NAMED.format("message_delta", '{"delta":{"stop_reason":"tool_use"}}'), "tool_calls"),
        ('data: {"choices":[{"finish_reason":"stop","stop_reason":"max_tokens"}]}\n\n', "stop"),
        ("data: [DONE]\n\n", "stop"),
        ('data: {"choices":[{"delta":{"content":"half"},"finish_reason":null}]}\n\n', "error"),
        ("", "error"),
    ],
)
def test_the_end_of_each_api_has_an_outcome_and_a_stream_without_one_is_an_error(
    stream: str, outcome: str
) -> None:
    scanner = StreamScanner()
    scanner.feed(stream.encode(), 0.0)
    assert scanner.outcome == outcome


def test_the_finish_reason_of_a_whole_response_is_found(chat_body: bytes) -> None:
    assert read_finish(chat_body) == "length"
    assert read_finish(b'{"choices": [{"finish_reason": null}]}') is None
    assert read_finish(b'{"stop_reason": "max_tokens", "stop_sequence": null}') == "length"
    assert read_finish(b'{"incomplete_details": {"reason": "max_output_tokens"}}') == "length"
    assert summarize(b"no JSON") == ResponseSummary()


ECHO = (
    b'{"text": "x", "content": "x", "finish_reason": "abort", "stop_reason": "abort",'
    b' "incomplete_details": {"reason": "abort"}, "usage": {"input_tokens": 1, "output_tokens": 1}}'
)


def test_client_json_echoed_in_a_response_is_ignored() -> None:
    shown = b'{"tools": [%s], "metadata": %s, "status": "%%s", "usage": %%s}' % (ECHO, ECHO)
    scanner = StreamScanner()
    for name in (b"created", b"in_progress"):
        begun = shown % (b"in_progress", b"null")
        scanner.feed(b'event: response.%s\ndata: {"response": %s}\n\n' % (name, begun), 1.0)
    assert (scanner.first_text_s, scanner.finish, scanner.usage) == (None, None, None)
    scanner.feed(b'event: response.output_text.delta\ndata: {"delta": "a"}\n\n', 2.0)
    ended = shown % (b"completed", b'{"input_tokens": 7, "output_tokens": 3}')
    scanner.feed(b'event: response.completed\ndata: {"response": %s}\n\n' % ended, 3.0)
    assert (scanner.first_text_s, scanner.outcome) == (2.0, "stop")
    assert scanner.usage == Usage(7, None, 3)
    assert summarize(ended) == ResponseSummary("stop", Usage(7, None, 3))


def test_the_input_of_a_tool_call_is_ignored() -> None:
    block = b'{"type": "tool_use", "name": "f", "input": %s}' % ECHO
    whole = b'{"content": [%s], "stop_reason": "tool_use", "usage": {"input_tokens": 7}}' % block
    assert summarize(whole) == ResponseSummary("tool_calls", Usage(7, None, 0))


def test_an_unknown_finish_reason_is_other() -> None:
    assert read_finish(b'{"stop_reason": "made_up"}') == "other"
    scanner = StreamScanner()
    scanner.feed(b'data: {"choices":[{"finish_reason":"made_up"}]}\n\n', 0.0)
    assert scanner.outcome == "other"


def test_events_without_a_name_are_read_between_named_ones() -> None:
    scanner = StreamScanner()
    scanner.feed(
        b"event: ping\ndata: {}\n\n"
        b'data: {"choices":[{"text":"a","finish_reason":"length"}],'
        b'"usage":{"prompt_tokens":2}}\n\n',
        1.0,
    )
    assert (scanner.first_text_s, scanner.finish) == (1.0, "length")
    assert scanner.usage == Usage(2, None, 0)


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b'data: {"error": {"message": "dead", "type": "x", "param": null, "code": 503}}\n\n', 503),
        (b'data: {"error":{"message":"dead"}}\n\n', 500),
        (b'data: {"choices": [{"text": "{\\"error\\": 1}"}]}\n\n', None),
        (b'event: error\ndata: {"type":"error","error":{"message":"dead"}}\n\n', 500),
        (b'data: {"choices": []}\n\ndata: {"error": {"code": 500}}\n\n', None),
        (b"", None),
    ],
)
def test_only_an_error_as_first_event_gives_a_stream_a_status(
    first: bytes, status: int | None
) -> None:
    assert find_error_status(first) == status


@pytest.mark.parametrize("count", [-1, 2**41, True, 1.5, "3"], ids=repr)
def test_a_count_of_tokens_that_no_request_can_have_is_none(count: object) -> None:
    bad = orjson.dumps({"usage": {"prompt_tokens": count, "completion_tokens": 3}})
    assert read_usage(bad) is None
    bad = orjson.dumps({"usage": {"prompt_tokens": 7, "completion_tokens": count}})
    assert read_usage(bad) == Usage(7, None, 0)
