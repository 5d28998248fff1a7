"""What a client asks for when it creates a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from steppe.batch.job import When
from steppe.batch.service.upload import LEAST_EXPIRY_S, MOST_EXPIRY_S
from steppe.batch.service.window import window_s
from steppe.config import BatchSection
from steppe.services.api_error import ApiError, invalid

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
MOST_PAIRS, MOST_KEY, MOST_VALUE = 16, 64, 512
"""Most pairs of metadata; longest key and value, characters."""
_KNOWN = (
    "input_file_id",
    "endpoint",
    "completion_window",
    "metadata",
    "output_expires_after",
    "when",
)


@dataclass(frozen=True, slots=True)
class NewBatch:
    """What a client asks for.

    Attributes:
        input: Id of the file of requests.
        endpoint: Path of the API that answers them.
        window: The completion window, as the client wrote it.
        window_s: The same, s.
        metadata: The client's own pairs.
        output_expires_s: When files of results may be deleted, s after they were made; None if the
            client does not say.
        when: When its rows may run.
    """

    input: str
    endpoint: str
    window: str
    window_s: float
    metadata: Mapping[str, str] = field(default_factory=dict)
    output_expires_s: int | None = None
    when: When = When.DEADLINE


def read_new_batch(body: bytes, batch: BatchSection) -> NewBatch:
    """Return what a body asks for.

    Raises:
        ApiError: It is no JSON object, or a value is out of range.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "invalid_json", f"asked for JSON, found {error.msg}") from error
    if not isinstance(found, dict):
        message = f"asked for a JSON object, found {type(found).__name__}"
        raise ApiError(400, "invalid_json", message)
    if unknown := sorted(found.keys() - set(_KNOWN)):
        asked = f"asked for {', '.join(_KNOWN)}"
        raise invalid(f"{unknown[0]:.60}: {asked}", unknown[0][:60], "unknown_parameter")
    window = found.get("completion_window")
    return NewBatch(
        input=_text(found, "input_file_id"),
        endpoint=_one_of(found, "endpoint", ENDPOINTS),
        window_s=window_s(window, batch.least_window_s, batch.most_window_s),
        window=str(window),
        metadata=_metadata(found.get("metadata")),
        output_expires_s=_expiry_s(found.get("output_expires_after")),
        when=When(_one_of({"when": "deadline", **found}, "when", tuple(map(str, When)))),
    )


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    if not isinstance(value, str) or not value:
        raise invalid(f"{key}: asked for a text, found {value!r:.60}", key)
    return value


def _one_of(found: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    value = found.get(key)
    if value not in known:
        raise invalid(f"{key}: asked for one of {', '.join(known)}, found {value!r:.60}", key)
    return str(value)


def _metadata(found: object) -> dict[str, str]:
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise invalid("metadata: asked for an object of texts", "metadata")
    if len(found) > MOST_PAIRS:
        asked = f"asked for at most {MOST_PAIRS} pairs"
        raise invalid(f"metadata: {asked}, found {len(found)}", "metadata")
    for key, value in found.items():
        if len(key) > MOST_KEY or len(value) > MOST_VALUE:
            asked = f"asked for keys of {MOST_KEY} and values of {MOST_VALUE} characters at most"
            raise invalid(f"metadata: {asked}, found {key!r:.80} longer", "metadata")
    return found


def _expiry_s(found: object) -> int | None:
    match found:
        case None:
            return None
        case {"anchor": "created_at", "seconds": int(seconds)} if (
            LEAST_EXPIRY_S <= seconds <= MOST_EXPIRY_S
        ):
            return seconds
        case _:
            asked = f"asked for anchor created_at and {LEAST_EXPIRY_S} to {MOST_EXPIRY_S} seconds"
            name = "output_expires_after"
            raise invalid(f"{name}: {asked}, found {found!r:.80}", name)
