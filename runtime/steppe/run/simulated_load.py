"""The requests of a simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from steppe.config import ModelledSection, RunConfig
from steppe.load import arrivals as loads
from steppe.load.arrivals import Arrival, LengthLimits, offered_rate
from steppe.load.rates import DailyEnvelope, DayClock
from steppe.load.traces import read_trace
from steppe.load.traffics import TRAFFICS
from steppe.roofline.files import read_longest_context
from steppe.roofline.lengths import RequestLengths
from steppe.run.load_traffic import synthetic_load
from steppe.run.warnings import Warn

DAY_S = 86_400.0
FAR_SHARE = 0.5
"""Sweep lengths that differ from those of the load by more than this share cause a warning."""
CUT_SHARE = 0.02
"""A traffic whose mean request loses more than this share to the context causes a warning."""
QUIET_SHARE = 0.1
"""A trace that leaves more than this share of a run without requests causes a warning."""


def longest_context(config: RunConfig) -> int | None:
    """Return how many tokens the model takes, prompt and output; None if unknown."""
    whole = config.model.max_model_len
    if whole is None and isinstance(config.device, ModelledSection):
        return read_longest_context(config.model.name)
    return whole


def length_limits(config: RunConfig) -> LengthLimits:
    """Return limits under which prompt and output fit the model together."""
    whole = longest_context(config)
    if whole is None:
        return loads.UNLIMITED
    return LengthLimits(max(1, whole // 2), max(1, whole // 4))


def mean_request(config: RunConfig) -> RequestLengths:
    """Return the mean request: that of the sweep, or of the load if there is no sweep.

    Of a load whose traffic changes, it is that of the first traffic.

    Raises:
        TraceError: The request trace cannot be read.
    """
    sweep = config.frontier.sweep
    if sweep is not None:
        return RequestLengths(sweep.prompt_tokens, sweep.output_tokens)
    return mean_of_load(config)


def with_lengths_of_load(config: RunConfig) -> RunConfig:
    """Return the configuration with a sweep of the load's mean request, unless it gives lengths.

    Raises:
        TraceError: The request trace cannot be read.
    """
    sweep = config.frontier.sweep
    if sweep is None or sweep.gives_lengths:
        return config
    mean = mean_of_load(config)
    prompt, output = (max(1, round(tokens)) for tokens in (mean.prompt_tokens, mean.output_tokens))
    swept = sweep.model_copy(update={"prompt_tokens": prompt, "output_tokens": output})
    frontier = config.frontier.model_copy(update={"sweep": swept})
    return config.model_copy(update={"frontier": frontier})


def warn_of_lengths(config: RunConfig, warn: Warn) -> None:
    """Warn if a sweep gives lengths that are far from those of the load.

    Raises:
        TraceError: The request trace cannot be read.
    """
    sweep = config.frontier.sweep
    if sweep is None or not sweep.gives_lengths:
        return
    mean = mean_of_load(config)
    if (
        abs(sweep.prompt_tokens - mean.prompt_tokens) > FAR_SHARE * mean.prompt_tokens
        or abs(sweep.output_tokens - mean.output_tokens) > FAR_SHARE * mean.output_tokens
    ):
        warn(
            "frontier.sweep: the points and load.utilisation are those of requests of "
            f"{sweep.prompt_tokens} prompt and {sweep.output_tokens} output tokens, the load's "
            f"have {mean.prompt_tokens:.0f} and {mean.output_tokens:.0f} on average"
        )


def arrivals_for(
    config: RunConfig, capacity_tps: float, warn: Warn = lambda _: None
) -> tuple[Arrival, ...]:
    """Return the requests of a run; there may be none.

    Args:
        config: The configuration.
        capacity_tps: Output tokens/s of the whole fleet at full power.
        warn: Takes what differs from the recorded trace.

    Raises:
        TraceError: The trace cannot be read, or has no rate to scale.
    """
    load, rng = config.load, np.random.default_rng(config.load.seed)
    if load.is_empty:
        return ()
    if load.trace == "synthetic":
        arrivals = _synthetic(config, capacity_tps, rng)
        _warn_of_cut_traffic(config, warn)
    else:
        arrivals = _replayed(config, capacity_tps, warn)
    shares = np.array(
        [load.priorities.interactive, load.priorities.standard, load.priorities.deferrable]
    )
    ranks = rng.choice(len(shares), size=len(arrivals), p=shares / shares.sum()).tolist()
    return tuple(replace(a, rank=rank) for a, rank in zip(arrivals, ranks, strict=True))


def mean_of_load(config: RunConfig) -> RequestLengths:
    """Return the mean request of the load.

    Raises:
        TraceError: The request trace cannot be read.
    """
    load, limits = config.load, length_limits(config)
    if load.trace == "synthetic":
        return TRAFFICS[load.traffic].mean_request(load.length_scale, limits)
    scaled = loads.scale_lengths(read_trace(Path(load.trace)), load.length_scale, limits)
    drawn = np.array([(a.prompt_tokens, a.output_tokens) for a in scaled])
    return RequestLengths(*drawn.mean(axis=0).tolist())


def _synthetic(
    config: RunConfig, capacity_tps: float, rng: np.random.Generator
) -> tuple[Arrival, ...]:
    limits = length_limits(config)
    synthetic, rate_rps = synthetic_load(config.load, capacity_tps, limits)
    day = _day(config)
    return replace(synthetic, envelope=_envelope(config, day), day=day).generate(
        rng,
        rate_rps=rate_rps,
        duration_s=config.sim.duration_s,
        length_scale=config.load.length_scale,
        limits=limits,
    )


def _replayed(config: RunConfig, capacity_tps: float, warn: Warn) -> tuple[Arrival, ...]:
    load, duration_s, path = config.load, config.sim.duration_s, Path(config.load.trace)
    recorded, limits = read_trace(path), length_limits(config)
    scaled = loads.scale_lengths(recorded, load.length_scale, limits)
    offered_rps = offered_rate(capacity_tps, load.utilisation, loads.mean_output_tokens(scaled))
    rate_rps = load.rate_rps or offered_rps
    at_rate = loads.at_rate(scaled, rate_rps, path)
    played = loads.until(at_rate, duration_s)
    unclipped = loads.scale_lengths(recorded[: len(played)], load.length_scale, loads.UNLIMITED)
    _warn_of_clipped(unclipped, limits, path, warn)
    ends_s, span_s = at_rate[-1].at_s, recorded[-1].at_s - recorded[0].at_s
    if span_s > 0 and ends_s < (1 - QUIET_SHARE) * duration_s:
        warn(
            f"load.trace: {path} is played at {rate_rps:.4g} requests/s, its own rate is "
            f"{(len(recorded) - 1) / span_s:.4g}: it ends {ends_s:.4g} s into a run of "
            f"{duration_s:g} s"
        )
    return played


def _warn_of_cut_traffic(config: RunConfig, warn: Warn) -> None:
    """Warn of traffics whose mean request is shorter than their own, to fit the model."""
    load, limits = config.load, length_limits(config)
    for name in dict.fromkeys((load.traffic, *(part.traffic for part in load.traffic_changes))):
        scale, shape = load.length_scale, TRAFFICS[name]
        whole, cut = (shape.mean_request(scale, most) for most in (loads.UNLIMITED, limits))
        if _tokens(cut) < (1 - CUT_SHARE) * _tokens(whole):
            warn(
                f"load.traffic: requests of {name} are cut to what the model takes, at most "
                f"{limits.prompt_tokens} prompt and {limits.output_tokens} output tokens: their "
                f"mean is {_tokens(cut):.0f} tokens instead of {_tokens(whole):.0f}"
            )


def _tokens(lengths: RequestLengths) -> float:
    """Return all tokens of a request."""
    return lengths.cached_tokens + lengths.prompt_tokens + lengths.output_tokens


def _warn_of_clipped(
    unclipped: Sequence[Arrival], limits: LengthLimits, path: Path, warn: Warn
) -> None:
    clipped = sum(limits.clip(arrival) != arrival for arrival in unclipped)
    if clipped:
        warn(
            f"load.trace: {clipped} of {len(unclipped)} requests of {path} are cut to what the "
            f"model takes, at most {limits.prompt_tokens} prompt and {limits.output_tokens} output "
            "tokens"
        )


def _day(config: RunConfig) -> DayClock:
    """Return the hour of the day in run time: a day lasts 24 h over the speed-up."""
    start = config.power.start or datetime(2000, 1, 1)
    begin_hour = start.hour + start.minute / 60 + start.second / 3600
    return DayClock(begin_hour, DAY_S / config.power.speedup)


def _envelope(config: RunConfig, day: DayClock) -> DailyEnvelope:
    load = config.load
    until_peak_s = (load.daily_peak_hour - day.begin_hour) % 24 * 3600
    return DailyEnvelope(load.daily_depth, until_peak_s / config.power.speedup, day.day_s)
