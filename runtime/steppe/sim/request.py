"""A request in the simulated fleet."""

from __future__ import annotations

from steppe.control.admission import DEFERRABLE, PRIORITIES
from steppe.load.arrivals import Arrival
from steppe.report.latency import tpot_s
from steppe.report.records import RequestRecord

ENERGY_SOURCE = "modelled"


class Request:
    """One request from its arrival to its end.

    Attributes:
        number: Its arrival number, from 1.
        arrival: What the client sent.
        first_s: Time of its first token, s; None before.
        computed_tokens: Most tokens that an engine held of it while it computed its prompt, with
            those of the prefix cache.
        cached_tokens: Prompt tokens that the prefix cache held when it was admitted last.
        output_tokens: Output tokens, known when it ends.
        energy_j: Energy charged so far, J.
        replica: Index of the replica that has it, or had it last; None before.
        end_s: Time of its end, s.
        finish: Finish reason.
        model: The model that has it; empty if there is only one.
        asked: The alias that it asked for; empty if it asked for the model.
    """

    __slots__ = (
        "arrival",
        "asked",
        "cached_tokens",
        "computed_tokens",
        "end_s",
        "energy_j",
        "finish",
        "first_s",
        "model",
        "number",
        "output_tokens",
        "replica",
    )

    def __init__(self, number: int, arrival: Arrival, model: str = "", asked: str = "") -> None:
        self.number, self.model, self.asked = number, model, asked
        self.arrival = arrival
        self.cached_tokens = arrival.cached_tokens
        self.first_s: float | None = None
        self.computed_tokens = self.output_tokens = 0
        self.energy_j = 0.0
        self.replica: int | None = None
        self.end_s = 0.0
        self.finish = ""

    @property
    def is_deferrable(self) -> bool:
        """Whether it is of class `deferrable`."""
        return self.arrival.rank == DEFERRABLE

    def end(self, now_s: float, finish: str, output_tokens: int) -> None:
        """Record the end."""
        self.end_s, self.finish, self.output_tokens = now_s, finish, output_tokens

    def record(self) -> RequestRecord:
        """Return the record of a request that has ended."""
        arrival, at_s, tokens = self.arrival, self.arrival.at_s, self.output_tokens
        prompt_tokens = min(self.computed_tokens, arrival.prompt_tokens)
        ttft_s = None if self.first_s is None else self.first_s - at_s
        e2e_s = self.end_s - at_s
        return RequestRecord(
            id=f"request-{self.number}",
            tenant=arrival.tenant,
            priority=PRIORITIES[arrival.rank],
            arrival_s=at_s,
            ttft_s=ttft_s,
            e2e_s=e2e_s,
            tpot_s=None if ttft_s is None else tpot_s(ttft_s, e2e_s, tokens),
            prompt_tokens=prompt_tokens,
            cached_tokens=min(self.cached_tokens, prompt_tokens),
            output_tokens=tokens,
            energy_j=self.energy_j,
            energy_source=ENERGY_SOURCE,
            finish=self.finish,
            replica=None if self.replica is None else f"replica-{self.replica + 1}",
            model=self.model,
            asked_model=self.asked,
        )
