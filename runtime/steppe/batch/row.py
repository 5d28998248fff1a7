"""One row of a job, as it is read, claimed and finished."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

DUPLICATE, INVALID, EXPIRED, CANCELLED = (
    "duplicate_custom_id",
    "invalid_row",
    "batch_expired",
    "batch_cancelled",
)
"""Codes of rows that never ran: a second row of one id, a bad line, and those left at the end."""


@dataclass(frozen=True, slots=True)
class Row:
    """One request of a job.

    Attributes:
        number: Its place in the input, from 0.
        custom_id: The client's name of it, unique in the job.
        endpoint: Path of the API, such as `/v1/chat/completions`.
        body: The request, a JSON object with sorted keys, `model` among them.
        key: SHA-256 of custom id, endpoint and body, in hex: a result belongs to it.
        run_order: Rows run in the order of this text, then of their numbers, so that rows with a
            common prefix of their prompts run one after another.
    """

    number: int
    custom_id: str
    endpoint: str
    body: bytes
    key: str
    run_order: str = ""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line of the input that is no request; it goes to the error file.

    Attributes:
        number: Its place in the input, from 0.
        custom_id: The client's name of it, or `row-N` if it has none.
        reason: What was asked and what was found, one line.
        code: `invalid_row` or `duplicate_custom_id`.
    """

    number: int
    custom_id: str
    reason: str
    code: str = INVALID


@dataclass(frozen=True, slots=True)
class Claim:
    """A row that a runner has taken, and what was tried before.

    Attributes:
        row: The row.
        attempts: Attempts that failed before.
        failed_replicas: Replicas at which they failed, each once, oldest first.
        wasted_j: Energy of those attempts, J.
    """

    row: Row
    attempts: int = 0
    failed_replicas: tuple[str, ...] = ()
    wasted_j: float = 0.0


@dataclass(frozen=True, slots=True)
class RowResult:
    """What became of a row.

    Attributes:
        number: The row's place in the input, from 0.
        custom_id: The client's name of it.
        status: HTTP status of the answer; 0 if there was none.
        request_id: Id of the request at the gateway, or empty.
        body: The answer, JSON; empty if there was none.
        error_code: Why there is no answer, such as `batch_expired`; empty if there is one.
        error: The same in words, one line.
        prompt_tokens: Tokens of the prompt.
        cached_tokens: Those of them that came from the prefix cache.
        output_tokens: Tokens of the answer.
        energy_j: Energy of the attempt that succeeded, J.
        wasted_j: Energy of all attempts before, J; that of the claim is part of it.
        energy_source: Where the energy is from: `counter`, `emulated`, ...; empty if unknown.
        boundary: What the energy includes: `gpu`, `node` or `site`; empty if unknown.
        started_epoch_s: When the last attempt began, s.
        ended_epoch_s: When it ended, s.
        attempts: Attempts, the last one too.
        replica: The replica that answered, or empty.
        model: The model that answered, or empty.
    """

    number: int
    custom_id: str
    status: int = 0
    request_id: str = ""
    body: bytes = b""
    error_code: str = ""
    error: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    energy_j: float = 0.0
    wasted_j: float = 0.0
    energy_source: str = ""
    boundary: str = ""
    started_epoch_s: float = 0.0
    ended_epoch_s: float = 0.0
    attempts: int = 0
    replica: str = ""
    model: str = ""

    @property
    def failed(self) -> bool:
        """Whether it goes to the error file."""
        return bool(self.error_code or self.error) or self.status >= 400


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result as it is read from a store.

    Attributes:
        sequence: Its place in the order in which the job's rows finished, from 1.
        result: The result.
    """

    sequence: int
    result: RowResult


def make_row(
    number: int, custom_id: str, endpoint: str, body: Mapping[str, Any], run_order: str = ""
) -> Row:
    """Return the row of a request; its body is written with sorted keys."""
    text = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return Row(number, custom_id, endpoint, text, key_of(custom_id, endpoint, text), run_order)


def key_of(custom_id: str, endpoint: str, body: bytes) -> str:
    """Return what a result belongs to: SHA-256 of id, endpoint and body, in hex."""
    digest = hashlib.sha256()
    for part in (custom_id.encode(), endpoint.encode(), body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
