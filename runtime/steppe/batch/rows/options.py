"""How the records of an input become requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from steppe.errors import UsageError

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
ENDPOINTS = (CHAT, COMPLETIONS, EMBEDDINGS)


@dataclass(frozen=True, slots=True)
class RowOptions:
    """How the records of an input become requests.

    Attributes:
        endpoint: Path of the API for all rows; empty: as the record says, or as fits its text.
        model: The model of all rows; empty: each record names its own.
        usual_model: The model of rows that name none, where `model` is empty.
        column: Field of a record with its text or messages; empty: `messages`, `prompt`, `input`
            or `text`, whichever a record has first.
        template: Jinja template of the text, with the fields of a record as variables; empty for
            none.
        system: System message in front of the text or messages; empty for none.
        sampling: Parameters of requests that do not have them, such as `temperature`.
        schema: JSON schema of the answers; None for free text.
        id_column: Field with the custom id; records without it are `row-N`, N from 0.
        split: Which split of a folder of Hugging Face `datasets`; empty if it has only one.
        most_line_bytes: Longest line of JSON or CSV, bytes; longer ones are bad rows.
        by_prefix: Whether rows with a common prefix run one after another; else in the order of
            the input.
    """

    endpoint: str = ""
    model: str = ""
    usual_model: str = ""
    column: str = ""
    template: str = ""
    system: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    id_column: str = "custom_id"
    split: str = ""
    most_line_bytes: int = 16 << 20
    by_prefix: bool = True

    def __post_init__(self) -> None:
        """Check what can be checked without a record.

        Raises:
            UsageError: The endpoint is unknown, or column and template exclude each other.
        """
        if self.endpoint and self.endpoint not in ENDPOINTS:
            known = ", ".join(ENDPOINTS)
            raise UsageError(f"asked for endpoint {self.endpoint}, found only {known}")
        if self.column and self.template:
            raise UsageError("asked for a column and a template, found that one excludes the other")
