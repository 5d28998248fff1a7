"""Put together what gateway and nodes say: ticks, requests and totals of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from steppe.energy.attribution import UJ_PER_J
from steppe.engine.control_block import request_key
from steppe.fleet.messages import ReplicaReport
from steppe.gateway.server import FinishedRequest
from steppe.report.latency import tpot_s
from steppe.report.records import RequestRecord

SETTLE_TICKS = 3
"""A finished request waits so many ticks for the energy of its last steps."""

_FINISH = {"error": "failed", "abort": "failed", "invalid": "rejected"}


@dataclass(slots=True)
class Accounts:
    """Energy and tokens by request, until each request is written down.

    What arrives for nobody (a request that bypassed the gateway, whose engine gave it another
    id, or whose record is written already) counts as idle once it is forgotten, so that the parts
    always sum to the whole.

    Attributes:
        energy_source: `emulated`, or the quality of the meters.
        began_epoch_s: When the run began, s since the Unix epoch.
    """

    energy_source: str
    began_epoch_s: float
    energy_uj: int = 0
    attributed_uj: int = 0
    idle_uj: int = 0
    transition_uj: int = 0
    _errors_j: dict[str, float] = field(default_factory=dict)
    _by_key: Counter[int] = field(default_factory=Counter)
    _tokens: dict[int, tuple[int, int]] = field(default_factory=dict)
    _fed: set[int] = field(default_factory=set)
    _open: list[tuple[int, FinishedRequest]] = field(default_factory=list)
    _tick: int = 0

    def add(self, reports: Iterable[ReplicaReport]) -> None:
        """Take the reports of one tick."""
        for report in reports:
            self.energy_uj += round(report.energy_j * UJ_PER_J)
            worst_j = max(self._errors_j.get(report.replica, 0.0), report.error_j)
            self._errors_j[report.replica] = worst_j
            self.idle_uj += report.idle_uj
            self.transition_uj += report.transition_uj
            self._by_key.update(report.requests_uj)
            self._fed.update(report.requests_uj, report.tokens)
            for key, (prompt, output) in report.tokens.items():
                old_prompt, old_output = self._tokens.get(key, (0, 0))
                self._tokens[key] = (old_prompt + prompt, old_output + output)

    def finish(self, requests: Iterable[FinishedRequest]) -> None:
        """Take requests that ended."""
        self._open += [(self._tick, request) for request in requests]

    def close_tick(self) -> list[RequestRecord]:
        """Return the requests whose energy is complete."""
        self._tick += 1
        ready = [r for tick, r in self._open if self._tick - tick >= SETTLE_TICKS]
        self._open = [(tick, r) for tick, r in self._open if self._tick - tick < SETTLE_TICKS]
        return [self._record(request) for request in ready]

    def forget(self) -> None:
        """Make idle energy of what nobody claims and got nothing more since the last call."""
        claimed = {request_key(request.id) for _, request in self._open}
        known = self._by_key.keys() | self._tokens.keys()
        for key in known - self._fed - claimed:
            self.idle_uj += self._by_key.pop(key, 0)
            self._tokens.pop(key, None)
        self._fed.clear()

    def close(self) -> list[RequestRecord]:
        """Return all requests that are left; what nobody claims becomes idle energy."""
        records = [self._record(request) for _, request in self._open]
        self._open = []
        self.idle_uj += self._by_key.total()
        self._by_key.clear()
        self._tokens.clear()
        return records

    @property
    def error_j(self) -> float:
        """Bound of the error of all energy, J.

        Windows that touch share their edges, so of a replica's only the first and the last
        count, and neither is more wrong than its worst window.
        """
        return 2 * sum(self._errors_j.values())

    @property
    def parts_uj(self) -> int:
        """Everything attributed so far, uJ."""
        return self.attributed_uj + self._by_key.total() + self.idle_uj + self.transition_uj

    def _record(self, request: FinishedRequest) -> RequestRecord:
        key = request_key(request.id)
        energy_uj = self._by_key.pop(key, 0)
        self.attributed_uj += energy_uj
        prompt, output = self._tokens.pop(key, (0, 0))
        # `usage` is the engine's own word, but a client must ask a stream for it and stay.
        if request.prompt_tokens is not None:
            prompt = request.prompt_tokens
        if request.output_tokens is not None:
            output = request.output_tokens
        ttft_s, e2e_s = request.ttft_s, request.e2e_s
        return RequestRecord(
            id=request.id,
            tenant=request.tenant,
            priority=request.priority,
            arrival_s=request.arrival_epoch_s - self.began_epoch_s,
            ttft_s=ttft_s,
            e2e_s=e2e_s,
            tpot_s=None if ttft_s is None else tpot_s(ttft_s, e2e_s, output),
            prompt_tokens=prompt,
            cached_tokens=request.cached_tokens,
            output_tokens=output,
            energy_j=energy_uj / UJ_PER_J,
            energy_source=self.energy_source,
            finish=_FINISH.get(request.finish, request.finish),
            replica=request.replica,
        )
