"""The energy and tokens of each request and of the run, from gateway and nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from steppe.energy.attribution import UJ_PER_J
from steppe.energy.span import WRONG_AT_ENDS
from steppe.energy.window import Quality, worst
from steppe.engine.control_block import request_key
from steppe.fleet.driver.booked_request import booked_request
from steppe.fleet.messages import ReplicaReport
from steppe.gateway.server import FinishedRequest, RequestEnergy
from steppe.ledger.booking import BookedRequest
from steppe.models.identity import ModelIdentity
from steppe.report.latency import tpot_s
from steppe.report.records import RequestRecord

QUIET_REPORTS = 3
"""The energy of a finished request is complete once its replica has reported so often that no step
of it ended. The first of these windows may have begun before the request ended, and a step that
was scheduled by then may follow the one that ran."""
LONGEST_SETTLE_S = 60.0
"""Longest wait for these reports, s: a node may be lost. The gateway reuses no id before."""
SILENT_S = 10.0
"""A request that was cut off may be in a step, which its engine reports when it ends. If no step
ends, the wait for it lasts so long, s, and `LONGEST_SETTLE_S` if it is the request's first."""

_FINISH = {"error": "failed", "abort": "failed"}
_CUT_OFF = frozenset({"cancelled", "error", "abort"})


@dataclass(slots=True)
class _Settling:
    """A finished request whose last steps may not have been reported; times are s of the run."""

    request: FinishedRequest
    key: int
    since_s: float
    may_run_until_s: float
    quiet: int = 0
    reports: int = 0
    is_told: bool = False

    def add(self, report: ReplicaReport) -> None:
        """Add a report of its replica."""
        self.reports += 1
        if report.tokens:
            self.may_run_until_s = self.since_s
        if self.key in report.tokens:
            self.quiet = 0
        elif report.tokens or not report.stepping:
            self.quiet += 1

    @property
    def is_reported(self) -> bool:
        """Whether its replica has reported all its steps."""
        return self.request.replica is None or self.quiet >= QUIET_REPORTS

    def is_settled(self, now_s: float) -> bool:
        """Return whether its energy is complete, or the longest wait is over."""
        if self.request.replica is None or now_s - self.since_s >= LONGEST_SETTLE_S:
            return True
        return self.is_reported and now_s >= self.may_run_until_s


@dataclass(slots=True)
class _Meter:
    """What was counted of one replica, uJ.

    The energy of a step in progress is metered, but not attributed yet. Each window is rounded by
    itself, so what is attributed may be some uJ more than what is metered: the reading is the
    higher one, and it never falls.
    """

    metered_uj: int = 0
    attributed_uj: int = 0
    reading_uj: int = 0

    def add(self, report: ReplicaReport) -> None:
        """Add a report of the replica."""
        self.metered_uj += round((report.energy_j + report.beside_j) * UJ_PER_J)
        self.attributed_uj += sum(report.requests_uj.values())
        self.attributed_uj += report.idle_uj + report.transition_uj
        self.reading_uj = max(self.reading_uj, self.metered_uj, self.attributed_uj)


@dataclass(slots=True)
class Accounts:
    """Energy and tokens by request, until each request is recorded.

    Energy of an unknown request (one that bypassed the gateway, whose engine gave it another id,
    whose gateway died, or whose record is written already) is unclaimed once it is dropped. So the
    parts always sum to the whole. The requests of a measurement on a replica on loan count as idle,
    for no client caused them.

    All sums are whole uJ: the parts and what is open yet are what the meters read.

    Attributes:
        energy_source: The worst quality of any joule so far; at first that while no meter fails.
        began_epoch_s: When the run began, s since the Unix epoch.
        boundary: What joules enclose: `gpu`, `node` or `site`.
        attributed_uj: Energy of the requests that are recorded, uJ.
        idle_uj: Energy without work, uJ.
        transition_uj: Energy of starts, uJ.
        neighbour_uj: Energy of other users of shared GPUs, beside all that, uJ.
        unclaimed_uj: Energy that no request claims, uJ.
        lent: Replicas on loan to a measurement.
        models: What is known of each model, by the name that clients use, for a ledger that takes
            the requests that are recorded, see `take_booked`; None without one.
    """

    energy_source: str
    began_epoch_s: float
    boundary: str = "gpu"
    attributed_uj: int = 0
    idle_uj: int = 0
    transition_uj: int = 0
    neighbour_uj: int = 0
    unclaimed_uj: int = 0
    lent: set[str] = field(default_factory=set)
    models: Mapping[str, ModelIdentity] | None = None
    _meters: dict[str, _Meter] = field(default_factory=dict)
    _booked: list[BookedRequest] = field(default_factory=list)
    _measured: set[int] = field(default_factory=set)
    _suspected: set[int] = field(default_factory=set)
    _worst_j: dict[str, float] = field(default_factory=dict)
    _inner_error_j: float = 0.0
    _by_key: Counter[int] = field(default_factory=Counter)
    _tokens: dict[int, tuple[int, int]] = field(default_factory=dict)
    _qualities: dict[int, str] = field(default_factory=dict)
    _best: str = field(init=False)
    _grown: set[int] = field(default_factory=set)
    _settling: list[_Settling] = field(default_factory=list)
    _settling_at: dict[str | None, list[_Settling]] = field(default_factory=dict)
    _now_s: float = 0.0

    def __post_init__(self) -> None:
        """Keep the quality of energy while no meter fails."""
        self._best = self.energy_source

    def add(self, reports: Iterable[ReplicaReport]) -> None:
        """Add the reports of one tick."""
        for report in map(_without_falls, reports):
            self._meters.setdefault(report.replica, _Meter()).add(report)
            self.neighbour_uj += round(report.neighbour_j * UJ_PER_J)
            self._add_error(report)
            self.idle_uj += report.idle_uj
            self.transition_uj += report.transition_uj
            self._by_key.update(report.requests_uj)
            self._note_quality(report)
            self._grown.update(report.requests_uj, report.tokens)
            if report.replica in self.lent:
                self._measured.update(report.requests_uj)
            for key, (prompt, output) in report.tokens.items():
                old_prompt, old_output = self._tokens.get(key, (0, 0))
                self._tokens[key] = (old_prompt + prompt, old_output + output)
            for settling in self._settling_at.get(report.replica, ()):
                settling.add(report)

    def finish(self, requests: Iterable[FinishedRequest]) -> None:
        """Add requests that ended; call `add` with the reports of the same poll before."""
        for request in requests:
            key, silent_s = request_key(request.engine_id), 0.0
            if request.finish in _CUT_OFF:
                silent_s = SILENT_S if key in self._tokens else LONGEST_SETTLE_S
            settling = _Settling(request, key, self._now_s, self._now_s + silent_s)
            self._settling.append(settling)
            self._settling_at.setdefault(request.replica, []).append(settling)

    def close_tick(self, now_s: float) -> list[RequestRecord]:
        """Return the requests whose energy is complete, `now_s` since the run began.

        After the longest wait energy may be missing, so it counts as an estimate.
        """
        self._now_s = now_s
        ready = [settling for settling in self._settling if settling.is_settled(now_s)]
        self._keep([s for s in self._settling if not s.is_settled(now_s)])
        for settling in (settling for settling in ready if not settling.is_reported):
            known = self._qualities.get(settling.key, self._best)
            self._qualities[settling.key] = worst((known, Quality.ESTIMATED))
        return [self._record(settling) for settling in ready]

    def energy_so_far(self) -> list[RequestEnergy]:
        """Return the energy of requests whose answers wait for it, each once.

        A report of its replica has come since the request ended, so the window of its last step is
        in; only a step that was scheduled by then could add to it.
        """
        told = [s for s in self._settling if s.request.wants_energy and s.reports and not s.is_told]
        for settling in told:
            settling.is_told = True
        return [
            RequestEnergy(
                id=settling.request.id,
                energy_j=self._by_key[settling.key] / UJ_PER_J,
                source=self._qualities.get(settling.key, self._best),
                boundary=self.boundary,
                is_final=False,
                gateway=settling.request.gateway,
            )
            for settling in told
        ]

    def drop_unclaimed(self, open_ids: Iterable[str]) -> None:
        """Count as unclaimed what no request claims, at this call nor at the one before.

        A request claims its energy while it is open or until its record is written; one that has
        just ended may be on its way here. Energy that grew since the last call is kept, too.

        Args:
            open_ids: Ids of the requests that the gateway has open.
        """
        claimed = {settling.key for settling in self._settling}
        claimed.update(map(request_key, open_ids))
        known = self._by_key.keys() | self._tokens.keys()
        suspected = known - self._grown - claimed
        for key in suspected & self._suspected:
            self._drop(key)
        self._suspected = suspected
        self._grown.clear()

    def close(self) -> list[RequestRecord]:
        """Return all remaining requests; all energy that is left is unclaimed."""
        records = [self._record(settling) for settling in self._settling]
        self._keep([])
        for key in list(self._by_key.keys() | self._tokens.keys()):
            self._drop(key)
        self._qualities.clear()
        # Metered, but not attributed: the actor of its node did not answer any more.
        self.unclaimed_uj += self.energy_uj - self.parts_uj
        return records

    def _keep(self, settling: list[_Settling]) -> None:
        """Keep these requests, by replica as well: a report is that of one of many replicas."""
        self._settling, self._settling_at = settling, {}
        for each in settling:
            self._settling_at.setdefault(each.request.replica, []).append(each)

    def take_booked(self) -> list[BookedRequest]:
        """Return the requests that were recorded since the last call, for a ledger."""
        booked, self._booked = self._booked, []
        return booked

    def _drop(self, key: int) -> None:
        energy_uj = self._by_key.pop(key, 0)
        if key in self._measured:
            self.idle_uj += energy_uj
        else:
            self.unclaimed_uj += energy_uj
        self._measured.discard(key)
        self._tokens.pop(key, None)
        self._qualities.pop(key, None)

    @property
    def meters_uj(self) -> dict[str, int]:
        """The reading of the meter of each replica, by name, uJ."""
        return {replica: meter.reading_uj for replica, meter in self._meters.items()}

    @property
    def energy_uj(self) -> int:
        """All energy, uJ."""
        return sum(meter.reading_uj for meter in self._meters.values())

    @property
    def error_j(self) -> float:
        """Bound of the error of all energy, J.

        Consecutive windows share their edges, so of a replica's windows with errors at the edges
        only the first and the last count, each with the largest. All other errors add up.
        """
        return 2 * sum(self._worst_j.values()) + self._inner_error_j

    @property
    def parts_uj(self) -> int:
        """Everything attributed so far, uJ."""
        explained_uj = self.idle_uj + self.transition_uj + self.unclaimed_uj
        return self.attributed_uj + self._by_key.total() + explained_uj

    def _note_quality(self, report: ReplicaReport) -> None:
        """Keep the worst quality of the run and of each request; emulated stays emulated."""
        if report.quality == self._best:
            return
        self.energy_source = worst((self.energy_source, report.quality))
        for key in report.requests_uj:
            known = self._qualities.get(key, self._best)
            self._qualities[key] = worst((known, report.quality))

    def _add_error(self, report: ReplicaReport) -> None:
        self._inner_error_j += report.beside_error_j
        if report.quality in WRONG_AT_ENDS and not report.wrong_inside:
            worst_j = max(self._worst_j.get(report.replica, 0.0), report.error_j)
            self._worst_j[report.replica] = worst_j
        else:
            self._inner_error_j += report.error_j

    def _record(self, settling: _Settling) -> RequestRecord:
        request, key = settling.request, settling.key
        energy_uj = self._by_key.pop(key, 0)
        self.attributed_uj += energy_uj
        prompt, output = self._tokens.pop(key, (0, 0))
        # `usage` comes from the engine, but only if the client requests it and stays connected.
        if request.prompt_tokens is not None:
            prompt = request.prompt_tokens
        if request.output_tokens is not None:
            output = request.output_tokens
        ttft_s, e2e_s = request.ttft_s, request.e2e_s
        record = RequestRecord(
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
            energy_source=self._qualities.pop(key, self._best),
            finish=_FINISH.get(request.finish, request.finish),
            replica=request.replica,
            streamed=request.streamed,
            boundary=self.boundary,
            model=request.model,
            adapter=request.adapter,
            asked_model=request.asked_model,
            continued=request.continued,
            gateway=request.gateway,
            site=request.site,
        )
        if self.models is not None:
            model = self.models.get(request.model, ModelIdentity())
            self._booked.append(booked_request(request, record, energy_uj, model))
        return record


def _without_falls(report: ReplicaReport) -> ReplicaReport:
    """Return a report in which no part is below 0.

    A reading of a meter corrects what was interpolated before it, so a part may fall by some uJ.
    """
    parts_uj = (report.idle_uj, report.transition_uj, *report.requests_uj.values())
    if min(parts_uj) >= 0:
        return report
    return replace(
        report,
        idle_uj=max(0, report.idle_uj),
        transition_uj=max(0, report.transition_uj),
        requests_uj={key: max(0, part_uj) for key, part_uj in report.requests_uj.items()},
    )
