"""Errors in OpenAI's shape, those of the gateway and those of replicas."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.gateway.site import Site

from steppe.gateway.openai_error import translate_body, translate_events
from steppe.gateway.stream import StreamScanner

JSON = {"Content_Type": "application/json"}


def vllm_error(message: str, type_: str, code: int, param: str | None = None) -> str:
    """Return an error as vLLM writes it."""
    error = {"message": message, "type": type_, "param": param, "code": code}
    return json.dumps({"error": error})


MISSING = "The model `x` does not exist."
TOO_LONG = "This model's maximum context length is 8 tokens."


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, vllm_error("m", "BadRequestError", 400, "top_p"),
         ("m", "invalid_request_error", "top_p", "bad_request")),
        (400, vllm_error("m", "Bad Request", 400),
         ("m", "invalid_request_error", None, "bad_request")),
        (404, vllm_error(MISSING, "NotFoundError", 404, "model"),
         (MISSING, "invalid_request_error", "model", "model_not_found")),
        (400, vllm_error(TOO_LONG, "BadRequestError", 400, "input_tokens"),
         (TOO_LONG, "invalid_request_error", "input_tokens", "context_length_exceeded")),
        (500, vllm_error("m", "InternalServerError", 500),
         ("m", "server_error", None, "internal_server_error")),
        (401, '{"error":{"message":"m","type":"authentication_error","code":"invalid_api_key"}}',
         ("m", "authentication_error", None, "invalid_api_key")),
        (429, '{"detail":"m"}', ("m", "rate_limit_error", None, "too_many_requests")),
        (400, '{"error":{"message":["m"]}}',
         ('["m"]', "invalid_request_error", None, "bad_request")),
        (400, '{"error":"m"}', ("m", "invalid_request_error", None, "bad_request")),
        (404, "no route", ("no route", "invalid_request_error", None, "not_found")),
        (500, "[1]", ("[1]", "server_error", None, "internal_server_error")),
    ],
)  # fmt: skip
def test_errors_of_replicas_are_translated(
    status: int, body: str, error: tuple[str, str, str | None, str]
) -> None:
    expected = dict(zip(("message", "type", "param", "code"), error, strict=True))
    assert json.loads(translate_body(status, body.encode())) == {"error": expected}


def test_an_error_of_the_messages_api_keeps_its_own_keys() -> None:
    body = b'{"type":"error","error":{"type":"not_found_error","message":"m"}}'
    error = {"message": "m", "type": "not_found_error", "param": None, "code": "not_found"}
    assert json.loads(translate_body(404, body)) == {"type": "error", "error": error}


def test_error_events_are_translated_and_other_events_pass_unchanged() -> None:
    text = b'data: {"choices":[{"text":"\\"error\\""}]}\n\n'
    error = b'data: {"error": {"message": "m", "type": "InternalServerError", "code": 500}}\n\n'
    translated = (
        b'data: {"error":{"message":"m","type":"server_error","param":null,'
        b'"code":"internal_server_error"}}\n\n'
    )
    scanner = StreamScanner()
    assert scanner.feed(text + error + b"data: [DONE]\n\n", 0.0) == (
        text + translated + b"data: [DONE]\n\n"
    )
    assert scanner.outcome == "error"
    assert translate_events(b'data: {"error": {broken}\n\n') == b'data: {"error": {broken}\n\n'


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"model": "m",\n "messages": [}', "line 2, column 15"),
        (b"", "line 1, column 1"),
        (b'{"model": m}', "line 1, column 11"),
    ],
)
async def test_a_body_that_is_not_json_is_refused_with_the_place(
    site: Site, body: bytes, where: str
) -> None:
    replica = await site.awake_replica()
    status, _, answer = await site.post(body=body, **JSON)
    error = json.loads(answer)["error"]
    assert status == 400
    assert error["message"].startswith("POST /v1/chat/completions: asked for JSON, found ")
    assert error["message"].endswith(f" at {where}")
    assert (error["type"], error["code"]) == ("invalid_request_error", "bad_request")
    assert replica.received == []


async def test_a_bad_body_is_refused_at_once_while_no_replica_is_awake(site: Site) -> None:
    async with asyncio.timeout(20):
        assert (await site.post(body=b"{", **JSON))[0] == 400


async def test_a_body_of_another_type_or_encoding_is_left_to_the_replica(site: Site) -> None:
    await site.awake_replica()
    assert (await site.post(body=b"{"))[0] == 200
    assert (await site.post(body=b"{", **JSON, Content_Encoding="gzip"))[0] == 200


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_a_request_is_recorded_as_streamed_if_the_client_asked_for_it(
    site: Site, stream: str
) -> None:
    await site.awake_replica()
    await site.post(body=b'{"stream": %s}' % stream.encode(), **JSON)
    (ended,) = site.gateway.drain_finished()
    assert ended.streamed == (stream == "true")
