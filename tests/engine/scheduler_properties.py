"""Check `LiveScheduler` against vLLM's own scheduler in random scenarios; print one JSON line.

A program of its own: vLLM and its environment variables stay out of the test's process.

    python -m tests.engine.scheduler_properties --scenarios 100 [--first 0]
    python -m tests.engine.scheduler_properties --mutants --scenarios 400 [--shrink]

What holds in every scenario, however the limits change:

- each request has the tokens that the plain scheduler gives it, and those of the made-up model;
- every request ends once, and an aborted one has the first of its tokens;
- no KV block, request, key or step is left behind;
- a step record for each step, which sums to what was scheduled and sampled, with its context;
- no step beyond the limits in force, none while frozen, and none when they have lapsed;
- a held request gets its turn; rows of a batch wait for the others, which they hold up nowhere;
- the hook sees each step begin and end, and the engine idle when nothing is left.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engine.paged_worker import expected_output
from tests.engine.scheduler_drive import Laboratory, Outcome
from tests.engine.scheduler_scenario import (
    MAX_MODEL_LEN,
    SEQUENCES,
    Scenario,
    random_scenario,
    smaller,
)

from steppe.engine.control_block import request_key
from steppe.engine.request_class import ROW_PRIORITY

SHRINK_TRIES = 300


@dataclass(frozen=True)
class Failure:
    """A scenario that fails, made as small as it goes, and what is wrong with it."""

    seed: int
    problems: list[str]
    scenario: str


class Checker:
    """Runs scenarios with one subclass of `LiveScheduler`."""

    def __init__(self, laboratory: Laboratory, live: type[Any]) -> None:
        self._laboratory, self._live = laboratory, live

    def problems(self, scenario: Scenario) -> list[str]:
        """Return what is wrong; nothing if all properties hold."""
        from vllm.v1.core.sched.async_scheduler import AsyncScheduler
        from vllm.v1.core.sched.scheduler import Scheduler

        plain_class = AsyncScheduler if scenario.is_async else Scheduler
        try:
            plain = self._run(scenario.without_limits(), plain_class, is_live=False)
            live = self._run(scenario, self._live, is_live=True)
        except Exception:  # noqa: BLE001  whatever a scheduler raises is a finding
            return [traceback.format_exc(limit=-3)]
        found = [f"plain: {problem}" for problem in [*plain.problems, *_tokens(scenario, plain)]]
        for check in (_tokens, _records, _limits, _rows_last, _turns, _hook):
            found += check(scenario, live)
        found += live.problems
        for name in plain.outputs.keys() - plain.aborted - live.aborted:
            if plain.outputs[name] != live.outputs[name]:
                found.append(f"{name}: other tokens than with the plain scheduler")
        return found

    def _run(self, scenario: Scenario, scheduler: type[Any], *, is_live: bool) -> Outcome:
        return self._laboratory.open(scenario, scheduler, is_live=is_live).run()

    def shrink(self, scenario: Scenario) -> Scenario:
        """Return a scenario that fails and has no smaller one that does, within some tries."""
        tries = SHRINK_TRIES
        while True:
            for less in smaller(scenario):
                tries -= 1
                if tries < 0:
                    return scenario
                if self.problems(less):
                    scenario = less
                    break
            else:
                return scenario

    def failures(self, seeds: range, most: int, *, shrinks: bool = True) -> Iterator[Failure]:
        """Yield the failures of these scenarios, at most so many, made small if asked for."""
        found = 0
        for seed in seeds:
            scenario = random_scenario(seed)
            if not self.problems(scenario):
                continue
            small = self.shrink(scenario) if shrinks else scenario
            yield Failure(seed, self.problems(small), repr(small))
            found += 1
            if found >= most:
                return


def _tokens(scenario: Scenario, outcome: Outcome) -> Iterator[str]:
    """Yield each request with wrong tokens or that did not end once."""
    for index, asked in enumerate(scenario.requests):
        name = f"r{index}"
        want = expected_output(asked.prompt, asked.max_tokens, MAX_MODEL_LEN)
        got, ends = outcome.outputs.get(name, []), outcome.finished[name]
        if name in outcome.aborted:
            if got != want[: len(got)] or ends:
                yield f"{name}: aborted with {got}, not the first of {want}"
        elif got != want or ends != 1:
            yield f"{name}: {ends} ends and tokens {got}, wanted {want}"


def _records(scenario: Scenario, outcome: Outcome) -> Iterator[str]:
    """Yield where the step records differ from what was scheduled and sampled."""
    steps = [step for step in outcome.steps if step.tokens]
    if len(steps) != len(outcome.records):
        yield f"{len(outcome.records)} records of {len(steps)} steps"
        return
    names = {request_key(name): name for name in outcome.outputs}
    sampled: Counter[str] = Counter()
    end_ns = 0
    for step, record in zip(steps, outcome.records, strict=True):
        work = {names[w.key]: w.prompt_tokens + w.decode_tokens for w in record.work}
        if work != step.tokens:
            yield f"a record of {work}, scheduled {step.tokens}"
        if record.context_tokens != step.context_tokens:
            yield f"a context of {record.context_tokens}, scheduled {step.context_tokens}"
        if not end_ns <= record.start_ns <= record.end_ns:
            yield "records overlap"
        end_ns = record.end_ns
        sampled.update({names[w.key]: w.output_tokens for w in record.work})
    delivered = {name: len(tokens) for name, tokens in outcome.outputs.items() if tokens}
    if {name: count for name, count in sampled.items() if count} != delivered:
        yield f"records of {dict(sampled)} sampled tokens, delivered {delivered}"
    yield from _counters(outcome)


def _counters(outcome: Outcome) -> Iterator[str]:
    """Yield the counters that differ from the sum of the records."""
    work = [w for record in outcome.records for w in record.work]
    told = outcome.telemetry
    want = {
        "steps": len(outcome.records),
        "prompt_tokens": sum(w.prompt_tokens for w in work),
        "output_tokens": sum(w.output_tokens for w in work),
        "busy_ns": sum(record.end_ns - record.start_ns for record in outcome.records),
        "running": 0,
        "waiting": 0,
    }
    for name, value in want.items():
        if getattr(told, name) != value:
            yield f"counter {name} is {getattr(told, name)}, the records say {value}"


def _limits(scenario: Scenario, outcome: Outcome) -> Iterator[str]:
    """Yield the steps beyond the limits in force."""
    for step in outcome.steps:
        batch = step.limits.batch_limit or SEQUENCES
        new = step.tokens.keys() - set(step.running_before)
        if step.is_frozen and step.tokens:
            yield f"stepped {step.tokens} while frozen"
        if step.has_lapsed and step.tokens:
            yield f"stepped {step.tokens} under limits that had lapsed"
        if step.limits.hold and len(step.tokens) > batch:
            yield f"{len(step.tokens)} requests in a step, limit {batch}"
        before = [name for name in step.running_before if not _is_row(scenario, name)]
        new = {name for name in new if not _is_row(scenario, name)}
        if new and len(before) + len(new) > batch:
            yield f"admitted {new} beside {len(step.running_before)}, limit {batch}"
        most = token_limit(scenario, step.limits.tokens_per_step)
        if sum(step.tokens.values()) > most:
            yield f"{sum(step.tokens.values())} tokens in a step, limit {most}"


def token_limit(scenario: Scenario, asked: int) -> int:
    """Return the most tokens of a step: not less than what any request needs to go on."""
    if not asked or not scenario.chunked_prefill:
        return scenario.step_tokens
    return min(scenario.step_tokens, max(asked, 1 + scenario.spec_tokens))


def _is_row(scenario: Scenario, name: str) -> bool:
    return scenario.by_priority and scenario.requests[int(name[1:])].priority >= ROW_PRIORITY


def _rows_last(scenario: Scenario, outcome: Outcome) -> Iterator[str]:
    """Yield the steps with rows that a held request should have been in."""
    for step in outcome.steps:
        stepped = [name for name in step.tokens if _is_row(scenario, name)]
        if not step.limits.hold or not stepped or step.is_frozen:
            continue
        firm = [name for name in step.running_before if not _is_row(scenario, name)]
        if len(firm) > (step.limits.batch_limit or SEQUENCES):
            yield f"rows {stepped} stepped beside {len(firm)} others"


def _turns(scenario: Scenario, outcome: Outcome) -> Iterator[str]:
    """Yield the requests that were held for longer than a turn of each of the others."""
    from steppe.engine.vllm_scheduler import ROTATE_STEPS

    waited: Counter[str] = Counter()
    for before, step in itertools.pairwise([None, *outcome.steps]):
        assert step is not None
        limits = step.limits
        if not limits.hold or limits.tokens_per_step or before is None or before.limits != limits:
            waited.clear()
            continue
        waits = set(step.running_before) - step.tokens.keys() if step.tokens else waited.keys()
        waits = {name for name in waits if not _is_row(scenario, name)}
        waited = Counter({name: waited[name] + bool(step.tokens) for name in waits})
        turns = -(-SEQUENCES // (limits.batch_limit or SEQUENCES))
        most = turns * ROTATE_STEPS + 2 * scenario.in_flight
        if late := [name for name, steps in waited.items() if steps > most]:
            yield f"{late} not stepped for {most} steps"
            return


def _hook(_scenario: Scenario, outcome: Outcome) -> Iterator[str]:
    """Yield where the hook did not see the steps as they were."""
    begun = 0
    for call in outcome.hook:
        begun += {"begin": 1, "end": -1, "idle": 0}[call]
        if begun < 0:
            yield "a step ended that had not begun"
        if call == "idle" and begun:
            yield "idle during a step"
    steps = sum(1 for step in outcome.steps if step.tokens)
    if begun or outcome.hook.count("begin") != steps:
        yield f"the hook saw {outcome.hook.count('begin')} of {steps} steps, {begun} without an end"
    if steps and outcome.hook[-1] != "idle":
        yield "the engine was not idle at the end"


def main() -> None:
    """Check scenarios, or find out which of them catches each mutant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenarios", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--failures", type=int, default=3, help="Stop after so many.")
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("--shrink", action="store_true", help="Make what fails a mutant small.")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.scenarios)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        from tests.engine.scheduler_mutants import mutants

        from steppe.engine.vllm_scheduler import LiveScheduler

        laboratory = Laboratory(Path(folder))
        if given.mutants:
            caught = {
                name: next(
                    Checker(laboratory, mutant).failures(seeds, 1, shrinks=given.shrink), None
                )
                for name, mutant in mutants().items()
            }
            found: Any = {name: failure and vars(failure) for name, failure in caught.items()}
        else:
            failures = Checker(laboratory, LiveScheduler).failures(seeds, given.failures)
            found = [vars(failure) for failure in failures]
    print(json.dumps({"scenarios": given.scenarios, "found": found}))  # noqa: T201


if __name__ == "__main__":
    main()
