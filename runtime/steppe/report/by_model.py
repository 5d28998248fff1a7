"""What a run did for each model, and for each alias by the model that served it."""

from __future__ import annotations

from typing import TypedDict

from steppe.report.latency import within_slo
from steppe.report.records import RequestRecord, Slo


class ModelSums(TypedDict):
    """Sums over the requests of a model.

    Keys: `requests`, all that ended; those of them `completed`; `good`, those within the SLO;
    `output_tokens`; `energy_j`, what they were charged (J).
    """

    requests: int
    completed: int
    good: int
    output_tokens: int
    energy_j: float


class ByModel:
    """Sums requests by the model that served them, and by the alias that they asked for."""

    def __init__(self, slo: Slo) -> None:
        """Begin without requests; `slo` is what they are judged by."""
        self._slo = slo
        self.models: dict[str, ModelSums] = {}
        self.aliases: dict[str, dict[str, ModelSums]] = {}

    def add(self, request: RequestRecord) -> None:
        """Add a request; one without a model, as in older records, is in no sum."""
        if not request.model:
            return
        add_to(self.models, request.model, request, self._slo)
        if request.asked_model:
            of_alias = self.aliases.setdefault(request.asked_model, {})
            add_to(of_alias, request.model, request, self._slo)


def add_to(sums: dict[str, ModelSums], key: str, request: RequestRecord, slo: Slo) -> None:
    """Add a request to the sums of a key; `slo` is what it is judged by."""
    nothing = ModelSums(requests=0, completed=0, good=0, output_tokens=0, energy_j=0.0)
    found = sums.setdefault(key, nothing)
    found["requests"] += 1
    found["completed"] += request.outcome == "completed"
    found["good"] += within_slo(request, slo) is True
    found["output_tokens"] += request.output_tokens
    found["energy_j"] += request.energy_j or 0.0
