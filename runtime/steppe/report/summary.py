"""What a run achieved, as one document."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, TypedDict, cast

from steppe.control.shortage_forecast import WORDS, Level
from steppe.report.by_model import ByModel, ModelSums
from steppe.report.by_site import BySite, SiteSums
from steppe.report.grid_events import EventSum, event_sums
from steppe.report.latency import DeferrableLatency, Latency, Service
from steppe.report.records import Outcome, RequestRecord, RunTotals, Slo, TickRecord
from steppe.report.tracking import PowerTrace, Tracking, track


class RequestCounts(TypedDict):
    """Number of requests by how they ended; `invalid` had a client error (4xx)."""

    completed: int
    failed: int
    rejected: int
    shed: int
    cancelled: int
    invalid: int


class SloTargets(TypedDict):
    """The SLOs that attainment and goodput refer to, s."""

    ttft_s: float
    tpot_s: float


class ShortOf(TypedDict):
    """A shortage of the budget over the run.

    Keys: `time_s`, its duration (s); `most_w`, its largest size in any forecast (W).
    """

    time_s: float
    most_w: float


class Summary(TypedDict):
    """What `summary.json` holds.

    Energy in J, over `boundary`, from `energy_source` and within `energy_error_j`.
    `neighbour_energy_j` is what other users of shared GPUs took, and is not in `energy_j`.
    `unclaimed_energy_j` is that of engine steps that no request of the gateway claims: with idle,
    transition and the energy of all requests it sums to `energy_j`.
    `wasted_energy_j` is the energy charged to requests that did not complete (failed, cancelled,
    rejected, shed): part of what all requests were charged, not a line beside it. Tokens are sums
    over all requests, whatever their end. `output_tokens_per_joule` and
    `energy_per_output_token` (J) divide them by the whole run's energy, idle and transition
    included; None where that divides by zero. `request_goodput` is in requests per second.
    `slo_attainment` and `request_goodput` follow `report.latency.within_slo`; `deferrable` is the
    line of the requests that no SLO judges. `curtailed_j` is supply that was neither drawn nor
    stored nor kept in reserve, at the site. `stale_s` is the time in which a supply was stale or
    missing, so that the fallback applied. `shortages` has what the budget was too small for:
    `floor`, the sleeping fleet, or `demand`, the demand at the SLO; only shortages that came.
    `lost_ticks` and `lost_requests` count the lines that a full disk did not take, and `lost_lines`
    both. Tokens, joules and the number of requests include them; `latency`, the SLO, `tracking`,
    `shortages`, `stale_s` and `curtailed_j` are those of the lines that are there.
    `broke_off` says why the run ended before it was to; it is empty if it did not.
    `gateway_restarts` counts restarts of the gateway: requests that it had outstanding then are in
    no sum. `models` sums the requests of each model, and `aliases` those that asked for an alias,
    by the model that served them. `sites` sums those that went to other sites or came from them.
    Tokens that another site computed are in no other sum of tokens but `models` and `aliases`.
    `frontier_source` is the source of the operating points that were used last (see `RunTotals`);
    `frontier_measured_at_s` is when the run had measured them itself (s), or None. `ledger` has
    what each run of the record has booked for its ledger, see `LedgerTotals`; it is empty without
    one. `grid_events` has what each event of the grid asked and what the site delivered, see
    `EventSum`.
    """

    duration_s: float
    energy_source: str
    boundary: str
    energy_j: float
    energy_error_j: float
    idle_energy_j: float
    transition_energy_j: float
    unclaimed_energy_j: float
    wasted_energy_j: float
    neighbour_energy_j: float
    curtailed_j: float
    prompt_tokens: int
    output_tokens: int
    output_tokens_per_joule: float | None
    energy_per_output_token: float | None
    tracking: Tracking
    stale_s: float
    shortages: dict[Level, ShortOf]
    latency: Latency
    slo: SloTargets
    slo_attainment: float | None
    request_goodput: float
    deferrable: DeferrableLatency
    requests: RequestCounts
    models: dict[str, ModelSums]
    aliases: dict[str, dict[str, ModelSums]]
    sites: SiteSums
    lost_lines: int
    lost_ticks: int
    lost_requests: int
    gateway_restarts: int
    broke_off: str
    frontier_source: str
    frontier_measured_at_s: float | None
    ledger: list[dict[str, Any]]
    grid_events: list[EventSum]
    versions: dict[str, str]


def summarise(
    ticks: Sequence[TickRecord],
    requests: Iterable[RequestRecord],
    totals: RunTotals,
    slo: Slo,
    ended: RequestSums | None = None,
) -> Summary:
    """Return the summary of a run.

    Args:
        ticks: Its ticks, as far as they are on disk.
        requests: Its requests, as far as they are on disk.
        totals: What only the run as a whole knows.
        slo: What requests must keep.
        ended: Sums over all its requests, also those that are not on disk; None if all are.
    """
    on_disk, service = RequestSums(), Service(slo)
    by_model, by_site = ByModel(slo), BySite(slo)
    for request in requests:
        on_disk.add(request)
        service.add(request)
        by_model.add(request)
        by_site.add(request)
    ended = on_disk if ended is None else ended
    return Summary(
        duration_s=totals.duration_s,
        energy_source=totals.energy_source,
        boundary=totals.boundary,
        energy_j=totals.energy_j,
        energy_error_j=totals.energy_error_j,
        idle_energy_j=totals.idle_energy_j,
        transition_energy_j=totals.transition_energy_j,
        unclaimed_energy_j=totals.unclaimed_energy_j,
        wasted_energy_j=math.fsum(ended.wasted_j),
        neighbour_energy_j=totals.neighbour_energy_j,
        curtailed_j=_over_time(ticks, (tick.curtailed_w for tick in ticks)),
        prompt_tokens=ended.prompt_tokens,
        output_tokens=ended.output_tokens,
        output_tokens_per_joule=_ratio(ended.output_tokens, totals.energy_j),
        energy_per_output_token=_ratio(totals.energy_j, ended.output_tokens),
        tracking=track(ticks, totals.meter_delay_s),
        stale_s=_over_time(ticks, (tick.stale for tick in ticks)),
        shortages=_shortages(ticks),
        latency=service.latency,
        slo=SloTargets(ttft_s=slo.ttft_s, tpot_s=slo.tpot_s),
        slo_attainment=service.slo_attainment,
        request_goodput=service.request_goodput(totals.duration_s),
        deferrable=service.deferrable,
        requests=ended.counts,
        models=by_model.models,
        aliases=by_model.aliases,
        sites=by_site.sums,
        lost_lines=totals.lost_ticks + totals.lost_requests,
        lost_ticks=totals.lost_ticks,
        lost_requests=totals.lost_requests,
        gateway_restarts=totals.gateway_restarts,
        broke_off=totals.broke_off,
        frontier_source=totals.frontier_source,
        frontier_measured_at_s=totals.frontier_measured_at_s,
        ledger=[asdict(booked) for booked in totals.ledger],
        grid_events=event_sums(ticks),
        versions=totals.versions,
    )


class RequestSums:
    """Sums over requests: tokens, and the joules of those that did not complete."""

    def __init__(self) -> None:
        """Begin without requests."""
        self.prompt_tokens = self.output_tokens = 0
        self.wasted_j = array("d")
        self._outcomes: Counter[Outcome] = Counter()

    @classmethod
    def of(cls, summary: Summary) -> RequestSums:
        """Return the sums that a summary has."""
        made = cls()
        made.prompt_tokens, made.output_tokens = summary["prompt_tokens"], summary["output_tokens"]
        made.wasted_j.append(summary["wasted_energy_j"])
        made._outcomes.update(cast("dict[Outcome, int]", summary["requests"]))
        return made

    def whole(self) -> RequestSums:
        """Return the same sums in little room."""
        made = RequestSums()
        made.prompt_tokens, made.output_tokens = self.prompt_tokens, self.output_tokens
        made.wasted_j.append(math.fsum(self.wasted_j))
        made._outcomes.update(self._outcomes)
        return made

    def add(self, request: RequestRecord) -> None:
        """Add a request; the tokens of one that another site served are no tokens of this one."""
        self._outcomes[request.outcome] += 1
        if not request.site:
            self.prompt_tokens += request.prompt_tokens
            self.output_tokens += request.output_tokens
        if request.outcome != "completed" and request.energy_j is not None:
            self.wasted_j.append(request.energy_j)

    @property
    def counts(self) -> RequestCounts:
        """How many ended how."""
        return RequestCounts(
            completed=self._outcomes["completed"],
            failed=self._outcomes["failed"],
            rejected=self._outcomes["rejected"],
            shed=self._outcomes["shed"],
            cancelled=self._outcomes["cancelled"],
            invalid=self._outcomes["invalid"],
        )


def _shortages(ticks: Sequence[TickRecord]) -> dict[Level, ShortOf]:
    found: dict[Level, ShortOf] = {}
    for of in WORDS:
        short_w = [
            max((it.short_w for it in tick.shortages if it.of == of and it.is_here), default=0.0)
            for tick in ticks
        ]
        if any(short_w):
            time_s = _over_time(ticks, (watts > 0 for watts in short_w))
            found[of] = ShortOf(time_s=time_s, most_w=max(short_w))
    return found


def _over_time(ticks: Sequence[TickRecord], values: Iterable[float]) -> float:
    widths_s = PowerTrace.from_ticks(ticks).width_s.tolist()
    return math.fsum(value * width_s for value, width_s in zip(values, widths_s, strict=True))


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator > 0 else None
