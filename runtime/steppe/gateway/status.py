"""The gateway's counts for the controller, of each model and of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from steppe.control.aliases import AliasCounts, sum_counts
from steppe.control.batch_work import BatchWork
from steppe.control.measurements import LatencyCounts


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """The counts of the requests for one model.

    Attributes:
        waiting: Requests that wait for a slot at a replica; one with several sequences, as with
            `n`, counts with each of them.
        deferrable_waiting: Waiting requests of class `deferrable`.
        arrived: Requests so far.
        finished: Requests that ended so far, in any way.
        failed: Finished requests that a replica failed (`error`, `abort`).
        refused: Finished requests with a 503 (`rejected`, `shed`).
        answered: Finished requests that a replica had.
        deferrable_arrived: Requests so far of class `deferrable`.
        deferrable_running: Requests of class `deferrable` that replicas have now.
        deferrable_answered: Finished requests of class `deferrable` that a replica had.
        deferrable_tokens: Output tokens of these.
        prompt_tokens: Prompt tokens of all requests so far, see `PromptTotals`: it may fall.
        cached_tokens: Those of them that the prefix cache held.
        latency: Requests against the SLO.
    """

    waiting: int = 0
    deferrable_waiting: int = 0
    arrived: int = 0
    finished: int = 0
    failed: int = 0
    refused: int = 0
    answered: int = 0
    deferrable_arrived: int = 0
    deferrable_running: int = 0
    deferrable_answered: int = 0
    deferrable_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    latency: LatencyCounts = field(default_factory=LatencyCounts)


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """The gateway's counts for the controller.

    Attributes:
        waiting: Requests that wait for a slot at a replica; one with several sequences, as with
            `n`, counts with each of them.
        outstanding: Requests of each replica, draining ones included, counted in the same way.
        arrived: Requests so far; `arrived - finished` are waiting or outstanding, each once.
        finished: Requests that ended so far, in any way.
        failed: Finished requests that a replica failed (`error`, `abort`).
        refused: Finished requests with a 503 (`rejected`, `shed`).
        answered: Finished requests that a replica had.
        deferrable_arrived: Requests so far of class `deferrable`.
        deferrable_waiting: Waiting requests of class `deferrable`.
        prompt_tokens: Prompt tokens of all requests so far, see `PromptTotals`: it may fall.
        cached_tokens: Those of them that the prefix cache held.
        latency: Requests against the SLO, that of the model of each.
        models: The same counts of the requests for each model, by its name.
        cache_worth: Blocks of recent prompts that the cache of each replica could serve.
        work: What runners have declared.
        aliases: The requests for each alias, by its name.
    """

    waiting: int
    outstanding: dict[str, int]
    arrived: int
    finished: int
    failed: int
    refused: int
    answered: int
    deferrable_arrived: int = 0
    deferrable_waiting: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    latency: LatencyCounts = field(default_factory=LatencyCounts)
    models: Mapping[str, ModelStatus] = field(default_factory=dict)
    cache_worth: Mapping[str, float] = field(default_factory=dict)
    work: tuple[BatchWork, ...] = ()
    aliases: Mapping[str, AliasCounts] = field(default_factory=dict)

    @classmethod
    def of(cls, models: Mapping[str, ModelStatus], outstanding: dict[str, int]) -> GatewayStatus:
        """Return the counts of all models together.

        Args:
            models: The counts of each model, by its name.
            outstanding: Requests of each replica.
        """
        counts = tuple(models.values())
        return cls(
            waiting=sum(count.waiting for count in counts),
            outstanding=outstanding,
            arrived=sum(count.arrived for count in counts),
            finished=sum(count.finished for count in counts),
            failed=sum(count.failed for count in counts),
            refused=sum(count.refused for count in counts),
            answered=sum(count.answered for count in counts),
            deferrable_arrived=sum(count.deferrable_arrived for count in counts),
            deferrable_waiting=sum(count.deferrable_waiting for count in counts),
            prompt_tokens=sum(count.prompt_tokens for count in counts),
            cached_tokens=sum(count.cached_tokens for count in counts),
            latency=_summed([count.latency for count in counts]),
            models=models,
        )


def all_counts(statuses: Sequence[GatewayStatus]) -> GatewayStatus:
    """Return the counts of several gateways together, at least one.

    Each knows the requests that it placed: what the caches of replicas are worth adds up, too.
    """
    if len(statuses) == 1:
        return statuses[0]
    outstanding: Counter[str] = Counter()
    worth: Counter[str] = Counter()
    of_models: dict[str, list[ModelStatus]] = {}
    for status in statuses:
        outstanding.update(status.outstanding)
        worth.update(status.cache_worth)
        for model, counts in status.models.items():
            of_models.setdefault(model, []).append(counts)
    models = {model: _together(counts) for model, counts in of_models.items()}
    aliases = {
        name: sum_counts([s.aliases[name] for s in statuses if name in s.aliases])
        for status in statuses
        for name in status.aliases
    }
    found = GatewayStatus.of(models, dict(outstanding))
    work = tuple(_declared(statuses).values())
    return replace(found, cache_worth=dict(worth), aliases=aliases, work=work)


def _declared(statuses: Sequence[GatewayStatus]) -> dict[str, BatchWork]:
    """Return the declared work by its key; of a job that several gateways know, what is less.

    A runner may reach another gateway each time, and the work of a job only shrinks.
    """
    found: dict[str, BatchWork] = {}
    for work in (work for status in statuses for work in status.work):
        known = found.get(work.key, work)
        found[work.key] = min(known, work, key=lambda each: (each.rows, each.output_tokens))
    return found


def without_open(status: GatewayStatus) -> GatewayStatus:
    """Return the counts of a gateway that has ended: nothing waits or is outstanding any more."""
    models = {model: _ended(counts) for model, counts in status.models.items()}
    return replace(GatewayStatus.of(models, {}), aliases=status.aliases)


def _ended(counts: ModelStatus) -> ModelStatus:
    latency = replace(counts.latency, overdue=0)
    return replace(
        counts, waiting=0, deferrable_waiting=0, finished=counts.arrived, latency=latency
    )


def _together(counts: Sequence[ModelStatus]) -> ModelStatus:
    return ModelStatus(
        waiting=sum(count.waiting for count in counts),
        deferrable_waiting=sum(count.deferrable_waiting for count in counts),
        arrived=sum(count.arrived for count in counts),
        finished=sum(count.finished for count in counts),
        failed=sum(count.failed for count in counts),
        refused=sum(count.refused for count in counts),
        answered=sum(count.answered for count in counts),
        deferrable_arrived=sum(count.deferrable_arrived for count in counts),
        deferrable_running=sum(count.deferrable_running for count in counts),
        deferrable_answered=sum(count.deferrable_answered for count in counts),
        deferrable_tokens=sum(count.deferrable_tokens for count in counts),
        prompt_tokens=sum(count.prompt_tokens for count in counts),
        cached_tokens=sum(count.cached_tokens for count in counts),
        latency=_summed([count.latency for count in counts]),
    )


def _summed(counts: list[LatencyCounts]) -> LatencyCounts:
    return LatencyCounts(
        sum(count.first_tokens for count in counts),
        sum(count.late for count in counts),
        sum(count.ended for count in counts),
        sum(count.slow for count in counts),
        sum(count.overdue for count in counts),
    )
