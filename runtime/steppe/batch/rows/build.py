"""A record of an input as a request: OpenAI batch lines, prompts, messages, columns of tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from steppe.batch.row import BadRow, Row, make_row
from steppe.batch.rows.options import CHAT, COMPLETIONS, EMBEDDINGS, ENDPOINTS, RowOptions
from steppe.batch.rows.order import run_order
from steppe.batch.rows.template import TemplateRowError, compiled

PARAMETERS = frozenset(
    {
        "model", "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens",
        "min_tokens", "stop", "stop_token_ids", "seed", "n", "presence_penalty",
        "frequency_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs",
        "response_format", "tools", "tool_choice", "chat_template_kwargs", "echo", "ignore_eos",
        "dimensions", "encoding_format", "reasoning_effort",
    }
)  # fmt: skip
"""Fields that go into a request under their names, where `messages`, `prompt` or `input` is one."""
TABLE_TEXT = "text"
TEXTS = ("messages", "prompt", "input", TABLE_TEXT)
"""Fields that may hold the text, first one first."""
_LONGEST_ID = 512


class _BadRecordError(Exception):
    """A record is no request; the text is the reason."""


def row_of(number: int, record: Any, options: RowOptions, place: str = "") -> Row | BadRow:
    """Return the request of a record, or why it is none.

    Args:
        number: Its place among the rows, from 0.
        record: An OpenAI batch line (`custom_id`, `method`, `url`, `body`), or any fields.
        options: How it becomes a request.
        place: Where it is in the input, for people, such as `line 3`.
    """
    name = f"row-{number}"
    prefix = f"{place}: " if place else ""
    try:
        if not isinstance(record, Mapping):
            raise _BadRecordError(f"asked for a JSON object, found {_kind(record)}")
        is_line = isinstance(record.get("body"), Mapping) or {"url", "method"} <= record.keys()
        name = _custom_id(record, options, name, required=is_line)
        endpoint, body = _of_line(record, options) if is_line else _of_fields(record, options)
        body = _completed(endpoint, body, options)
        order = run_order(body) if options.by_prefix else ""
        return make_row(number, name, endpoint, body, order)
    except (_BadRecordError, TemplateRowError) as error:
        return BadRow(number, name, f"{prefix}{error}")
    except (orjson.JSONEncodeError, UnicodeEncodeError) as error:
        reason = f"{prefix}asked for what JSON can hold, found: {error}"
        return BadRow(number, name, reason.encode(errors="replace").decode())


def _custom_id(
    record: Mapping[str, Any], options: RowOptions, default: str, *, required: bool
) -> str:
    column = "custom_id" if required else options.id_column
    found = record.get(column)
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found)
    if found is None and not required:
        if options.id_column != "custom_id":
            raise _BadRecordError(f"asked for an id in {options.id_column!r}, found none")
        return default
    if not isinstance(found, str) or not 0 < len(found) <= _LONGEST_ID or "\0" in found:
        asked = f"asked for a {column} of 1 to {_LONGEST_ID} characters"
        raise _BadRecordError(f"{asked}, found {_kind(found)}")
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise _BadRecordError(f"asked for a {column} in UTF-8, found {error.reason}") from error
    return found


def _of_line(record: Mapping[str, Any], options: RowOptions) -> tuple[str, dict[str, Any]]:
    method, url, body = record.get("method", "POST"), record.get("url"), record.get("body")
    if method != "POST":
        raise _BadRecordError(f"asked for method POST, found {_shown(method)}")
    if url not in ENDPOINTS:
        raise _BadRecordError(f"asked for a url of {', '.join(ENDPOINTS)}, found {_shown(url)}")
    if options.endpoint and url != options.endpoint:
        raise _BadRecordError(f"asked for url {options.endpoint}, found {url}")
    if not isinstance(body, Mapping):
        raise _BadRecordError(f"asked for an object in body, found {_kind(body)}")
    return url, dict(body)


def _of_fields(record: Mapping[str, Any], options: RowOptions) -> tuple[str, dict[str, Any]]:
    if options.template:
        return _of_text(compiled(options.template)(record), "", {}, options)
    if options.column:
        if options.column not in record:
            found = _names(record)
            raise _BadRecordError(f"asked for column {options.column!r}, found {found}")
        return _of_text(record[options.column], "", {}, options)
    for name in TEXTS:
        if record.get(name) is not None:
            return _of_text(record[name], name, _parameters(record, name), options)
    raise _BadRecordError(f"asked for one of {', '.join(TEXTS)}, found {_names(record)}")


def _parameters(record: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Return the fields that go with a request; those of a table of texts mean something else."""
    if text == TABLE_TEXT:
        return {}
    return {name: record[name] for name in PARAMETERS & record.keys() if record[name] is not None}


def _of_text(
    text: Any, field: str, body: dict[str, Any], options: RowOptions
) -> tuple[str, dict[str, Any]]:
    """Return endpoint and body of a text, of messages, or of token ids."""
    is_chat = isinstance(text, list) and bool(text) and isinstance(text[0], Mapping)
    if not isinstance(text, str) and not isinstance(text, list):
        raise _BadRecordError(f"asked for a text or messages, found {_kind(text)}")
    usual = {"prompt": COMPLETIONS, "input": EMBEDDINGS}.get(field, CHAT)
    endpoint = options.endpoint or (CHAT if is_chat or options.system else usual)
    if endpoint == CHAT:
        if not is_chat and not isinstance(text, str):
            raise _BadRecordError("asked for a text or messages, found a list")
        messages = text if is_chat else [{"role": "user", "content": text}]
        return endpoint, {**body, "messages": messages}
    if is_chat:
        raise _BadRecordError(f"asked for a text for {endpoint}, found messages")
    return endpoint, {**body, "prompt" if endpoint == COMPLETIONS else "input": text}


def _completed(endpoint: str, body: dict[str, Any], options: RowOptions) -> dict[str, Any]:
    """Return the body with what all requests have; a row's own parameters win."""
    for unused in ("stream", "stream_options"):  # a row's answer comes as a whole
        body.pop(unused, None)
    needed = {CHAT: "messages", COMPLETIONS: "prompt", EMBEDDINGS: "input"}[endpoint]
    if not body.get(needed):
        raise _BadRecordError(f"asked for {needed} for {endpoint}, found none")
    if endpoint == CHAT:
        _check_messages(body["messages"])
    if endpoint != EMBEDDINGS:
        body = {**options.sampling, **body}
        if options.schema is not None and "response_format" not in body:
            body["response_format"] = _response_format(options.schema)
    if options.system and endpoint == CHAT:
        body["messages"] = [{"role": "system", "content": options.system}, *body["messages"]]
    if options.model or (options.usual_model and not body.get("model")):
        body["model"] = options.model or options.usual_model
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise _BadRecordError(f"asked for a model, found {_kind(body.get('model'))}")
    return body


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list):
        raise _BadRecordError(f"asked for a list of messages, found {_kind(messages)}")
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise _BadRecordError(f"asked for messages with a role, found {_shown(message)}")


def _response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": dict(schema), "strict": True},
    }


def _names(record: Mapping[str, Any]) -> str:
    return f"only {', '.join(map(str, record))}"[:200] if record else "nothing"


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) and len(value) < 80 else _kind(value)


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    kinds = {bool: "true or false", int: "a number", float: "a number", list: "a list"}
    kinds |= {dict: "an object", type(None): "none"}
    return kinds.get(type(value), f"a value of type {type(value).__name__}")
