"""What the gateway and the ledger say to each other about a request that arrives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from steppe.ledger.tariff import Band

ANSWER_S = 2.0
"""Longest time for the ledger's answer about a request, s."""
UNAVAILABLE = "ledger_unavailable"
"""Code of the 503 without an answer of the ledger."""
STOPPING = "stopping"
"""Code of the 503 of a gateway that stops before there is an answer."""
_STATUSES = {
    UNAVAILABLE: 503,
    STOPPING: 503,
    "invalid_quote": 400,
    "invalid_request": 400,
    "conflict": 409,
}
_REFUSED_STATUS = 402


@dataclass(frozen=True, slots=True)
class LedgerLink:
    """How a gateway uses the ledger of its run.

    Attributes:
        asks: Whether it asks the ledger for each request, as it has to where there are tariffs.
        answer_s: Longest time for its answer, s.
    """

    asks: bool = True
    answer_s: float = ANSWER_S


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """A request that arrives, as the ledger sees it.

    Attributes:
        request: The id that its replicas get.
        tenant: The tenant.
        model: The model that is going to serve it.
        priority: Its class.
        band: The band of tariffs that holds now: `normal` or `surplus`.
        prompt_tokens: Tokens of its prompt; those of a text are estimated, rather too many.
        max_tokens: Most output tokens of each sequence; None if it names no maximum.
        sequences: Sequences that it generates.
        quote: Id of a quote that its client has; empty without one.
        key_id: Public part of its API key; empty without one.
    """

    request: str
    tenant: str
    model: str
    priority: str
    band: Band
    prompt_tokens: int
    max_tokens: int | None
    sequences: int
    quote: str = ""
    key_id: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """Its values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The ledger takes a request.

    Attributes:
        terms: Its rate, `TARIFF/NUMBER`; empty if no tariff has one.
        currency: What it pays with; empty without a rate.
        held: What is set aside for it.
        free: What its tenant still has; None without a limit.
    """

    terms: str
    currency: str
    held: int
    free: int | None


@dataclass(frozen=True, slots=True)
class NotAdmitted:
    """The ledger refuses a request, or does not answer.

    Attributes:
        code: Why, for programs.
        message: Why, one line.
    """

    code: str
    message: str

    @property
    def status(self) -> int:
        """The HTTP status for the client."""
        return _STATUSES.get(self.code, _REFUSED_STATUS)


Verdict = Admitted | NotAdmitted


def read_verdict(found: Mapping[str, Any]) -> Verdict:
    """Return what the ledger says of one request.

    Raises:
        KeyError: A value is missing.
    """
    if "terms" in found:
        return Admitted(found["terms"], found["currency"], found["held"], found["free"])
    return NotAdmitted(found["code"], found["message"])
