"""What a mean step of a measured point did, and the costs of a step that follow.

A window counts steps and tokens. The steps that computed prompts, the decoding sequences and their
context follow from the lengths of its load, whose requests replace each other one by one: those of
a sample, or prompts and outputs that are uniform from 1 to twice their mean less 1
(`lengths_around`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from steppe.measure.sweep.length_sample import LengthSample
from steppe.measure.sweep.result import Phase, PointResult, Setting
from steppe.roofline.step_cost_fit import StepSample, fit_step_costs
from steppe.roofline.step_costs import StepCosts

PHASES = frozenset(Phase)
FEWEST_MIXED = 2
"""Fewest batch limits of mixed load at a clock: with one, step and sequence are not told apart."""
MEAN_PROGRESS = 2.0 / 3.0
"""Tokens that a decoding sequence has so far, over the mean output: long outputs run for longer, so
for uniform lengths it is not one half (mean of the squares over twice the mean)."""


@dataclass(frozen=True, slots=True)
class _LoadLengths:
    """Lengths of the requests of a point.

    Attributes:
        prompts: Prompts, each as likely as the others, tokens.
        context_tokens: Mean context of a sequence that decodes, tokens.
    """

    prompts: NDArray[np.int_]
    context_tokens: float

    @classmethod
    def of(cls, setting: Setting, sample: LengthSample | None) -> _LoadLengths:
        """Return the lengths of a point's load."""
        if setting.sample:
            assert sample is not None, "a setting that names a sample has one"
            prompts, outputs = np.array(sample.pairs).T
            # Each output of o tokens is met in o steps, at half of them in the mean.
            return cls(prompts, float((outputs * (prompts + outputs / 2)).sum() / outputs.sum()))
        context = setting.prompt_tokens + MEAN_PROGRESS * setting.output_tokens
        return cls(np.arange(1, 2 * setting.prompt_tokens), context)


def measured_costs(
    points: Sequence[PointResult],
    tokens_per_step: int,
    kv_tokens: int | None = None,
    sample: LengthSample | None = None,
) -> StepCosts | None:
    """Return the costs of a step that measured points show.

    Only clocks count at which prefill alone, decode alone and two batch limits of mixed load are
    sound: with less, prompts and outputs cannot be told apart.

    Args:
        points: The measured points.
        tokens_per_step: Most tokens that the engine computes in a step.
        kv_tokens: Tokens that its KV cache holds; None if unknown.
        sample: Lengths of the requests of points that name a sample; those that name another are
            left out.

    Returns:
        The costs, with the median errors of points that were left out of the fit; None if no clock
        was measured with all three loads.
    """
    known = ("", sample.digest) if sample else ("",)
    usable = [p for p in points if p.is_sound and _steps(p) and p.setting.sample in known]
    clocks = {point.setting.clock_mhz for point in usable}
    whole = {clock for clock in clocks if _tells_apart(_at(usable, clock))}
    samples = [
        step_sample(point, tokens_per_step, sample)
        for point in usable
        if point.setting.clock_mhz in whole
    ]
    if not samples:
        return None
    costs = fit_step_costs(samples, tokens_per_step, kv_tokens)
    time_error, energy_error = _left_out_errors(samples, tokens_per_step)
    return replace(costs, time_error=time_error, energy_error=energy_error)


def _left_out_errors(samples: Sequence[StepSample], tokens_per_step: int) -> tuple[float, float]:
    """Return the median relative errors of time and energy of samples left out one by one.

    A fit of as few points as terms goes through all of them, so its own errors say nothing.
    """
    errors = []
    for sample in samples:
        others = [s for s in samples if s is not sample and s.clock_mhz == sample.clock_mhz]
        costs = fit_step_costs(others, tokens_per_step)
        terms = sample.prefills, sample.sequences, sample.prompt_tokens, sample.context_tokens
        work = np.array([[1.0], *([term] for term in terms)])
        time, energy = costs.time_s(work).item(), costs.energy_j(work).item()
        errors.append((abs(time / sample.time_s - 1), abs(energy / sample.energy_j - 1)))
    of_time, of_energy = np.median(np.array(errors), axis=0).tolist()
    return of_time, of_energy


def step_sample(
    point: PointResult, tokens_per_step: int, sample: LengthSample | None = None
) -> StepSample:
    """Return the mean step of a point whose steps were counted.

    Args:
        point: The point.
        tokens_per_step: Most tokens that the engine computes in a step.
        sample: Lengths of its requests, if it names a sample.
    """
    setting, windows, steps = point.setting, point.windows, _steps(point)
    prompt_tokens = sum(window.prompt_tokens for window in windows) / steps
    output_tokens = sum(window.output_tokens for window in windows) / steps
    lengths = _LoadLengths.of(setting, sample)
    requests = prompt_tokens / float(lengths.prompts.mean())
    decoding = 0.0 if setting.phase is Phase.PREFILL else max(0.0, output_tokens - requests)
    room = max(1.0, tokens_per_step - decoding)
    return StepSample(
        clock_mhz=setting.clock_mhz,
        prefills=_prefill_share(setting, lengths.prompts, requests, room),
        prompt_tokens=prompt_tokens,
        sequences=decoding,
        context_tokens=decoding * lengths.context_tokens,
        time_s=sum(window.duration_s for window in windows) / steps,
        energy_j=sum(window.energy_j for window in windows) / steps,
    )


def _prefill_share(
    setting: Setting, prompts: NDArray[np.int_], requests: float, room: float
) -> float:
    """Return the share of steps that compute prompts.

    Args:
        setting: The point.
        prompts: Its prompts, tokens.
        requests: Requests that begin in a mean step.
        room: Prompt tokens that fit into a step.
    """
    if setting.phase is Phase.PREFILL:
        return 1.0
    busy = requests * float(np.ceil(prompts / room).mean())
    places = setting.batch_limit
    share: float = 1.0 - max(0.0, 1.0 - busy / places) ** places  # each place begins by chance
    return share


def _tells_apart(points: Sequence[PointResult]) -> bool:
    mixed = {p.setting.batch_limit for p in points if p.setting.phase is Phase.MIXED}
    phases = {point.setting.phase for point in points}
    return phases == PHASES and len(mixed) >= FEWEST_MIXED


def _at(points: Sequence[PointResult], clock_mhz: int) -> list[PointResult]:
    return [point for point in points if point.setting.clock_mhz == clock_mhz]


def _steps(point: PointResult) -> int:
    return sum(window.steps for window in point.windows)
