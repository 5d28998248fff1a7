"""What clients ask of each model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from steppe.control.demand import DemandEstimator, OfferedLoad, Traffic
from steppe.control.measurements import LatencyCounts
from steppe.control.state import NONE_DEFERRABLE, DeferrableWork
from steppe.fleet.controller.live_measurements import LatencyTotals
from steppe.gateway.server import GatewayStatus
from steppe.gateway.status import ModelStatus


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """The requests for one model, or for all.

    Attributes:
        load: What clients ask for.
        waiting: Requests that no replica has taken yet.
        latency: Requests against the SLO; None if unknown.
    """

    load: OfferedLoad
    waiting: int
    latency: LatencyCounts | None

    def part(self, share: float) -> ModelLoad:
        """Return this share of the demand; any of the waiting requests may come."""
        whole = self.load
        later = whole.deferrable
        deferrable = DeferrableWork(
            later.tps * share, later.waiting, later.tokens * share, later.running
        )
        return ModelLoad(
            OfferedLoad(whole.tps * share, deferrable, whole.lengths), self.waiting, self.latency
        )


NO_LOAD = ModelLoad(OfferedLoad(0.0, NONE_DEFERRABLE), 0, None)


class ModelLoads:
    """The load of each model, by the name that clients use.

    Attributes:
        output_tokens: Output tokens of each model so far.
    """

    def __init__(self) -> None:
        """Begin without a request."""
        self.output_tokens: Counter[str] = Counter()
        self._demands: defaultdict[str, DemandEstimator] = defaultdict(DemandEstimator)
        self._latency: defaultdict[str, LatencyTotals] = defaultdict(LatencyTotals)

    def update(
        self, now_s: float, status: GatewayStatus | None, replicas: Mapping[str, Iterable[str]]
    ) -> dict[str, ModelLoad]:
        """Return the load of each model; none before the first status of the gateway.

        Args:
            now_s: The time, s.
            status: The counts of the gateway.
            replicas: Names of the replicas of each model.
        """
        if status is None:
            return {}
        found = dict(status.models)
        if not found:  # a gateway with one model may give its counts as those of all
            only = next(iter(replicas), "")
            found = {only: _only(status)}
        outstanding = status.outstanding
        return {
            model: ModelLoad(
                self._offered(
                    model,
                    now_s,
                    counts,
                    sum(outstanding.get(r, 0) for r in replicas.get(model, ())),
                ),
                counts.waiting,
                self._latency[model].update(counts.latency),
            )
            for model, counts in found.items()
        }

    def _offered(self, model: str, now_s: float, counts: ModelStatus, running: int) -> OfferedLoad:
        return self._demands[model].update(
            Traffic(
                now_s=now_s,
                arrived=counts.arrived,
                answered=counts.answered,
                output_tokens=self.output_tokens[model],
                deferrable_arrived=counts.deferrable_arrived,
                deferrable_waiting=counts.deferrable_waiting,
                deferrable_running=counts.deferrable_running,
                deferrable_answered=counts.deferrable_answered,
                deferrable_tokens=counts.deferrable_tokens,
                prompt_tokens=counts.prompt_tokens,
                cached_tokens=counts.cached_tokens,
                running=running,
            )
        )


def _only(status: GatewayStatus) -> ModelStatus:
    return ModelStatus(
        waiting=status.waiting,
        deferrable_waiting=status.deferrable_waiting,
        arrived=status.arrived,
        answered=status.answered,
        deferrable_arrived=status.deferrable_arrived,
        prompt_tokens=status.prompt_tokens,
        cached_tokens=status.cached_tokens,
        latency=status.latency,
    )


def together(loads: Iterable[ModelLoad]) -> ModelLoad:
    """Return the load of all models; lengths and latency only of one alone."""
    found = tuple(loads)
    if len(found) == 1:
        return found[0]
    if not found:
        return NO_LOAD
    later = [one.load.deferrable for one in found]
    deferrable = DeferrableWork(
        sum(work.tps for work in later),
        sum(work.waiting for work in later),
        sum(work.tokens for work in later),
        sum(work.running for work in later),
    )
    return ModelLoad(
        OfferedLoad(sum(one.load.tps for one in found), deferrable),
        sum(one.waiting for one in found),
        None,
    )
