"""The fleets of the scoreboard under any traffic, at a share of what they serve of it.

The operating points stay those of a sweep of conversation (`bench_fleets.py`): a controller has no
point of any other traffic. The rate is chosen by what the fleet serves at full clocks of the
traffic that comes, so that a share of capacity means the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import scenarios
from bench_fleets import Bench
from steppe.config import LoadSection
from steppe.config.load import TrafficName
from steppe.load.traffics import TRAFFICS
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.point import OperatingPoint
from steppe.run.simulated_load import arrivals_for, length_limits
from steppe.sim.points import modelled_point

LONGEST_CONTEXT = 65_536
"""Longest prompt and output together, tokens, so that hardly a request is cut; of Llama 3.1's
131,072."""
AMPLE_SHARE, SHORT_SHARE = 0.55, 0.8
"""Load without and with a budget that binds, share of what full clocks serve."""
DAILY_DEPTH = 0.4
"""Daily swing of the rate where a budget binds; without one the load is steady."""


@dataclass(frozen=True, slots=True)
class TrafficCapacity:
    """What a fleet serves of a traffic at full clocks, with all replicas saturated.

    Attributes:
        rate_rps: Requests per second.
        draw_w: Draw of the fleet, W.
    """

    rate_rps: float
    draw_w: float


def capacity_of(bench: Bench, traffic: TrafficName) -> TrafficCapacity:
    """Return what the fleet serves of a traffic, from its step model at the mean request.

    A saturated fleet serves within 3 % of it. Where requests fill the KV cache before the batch
    (retrieval, agents, reasoning), it serves up to a fifth less, for preempted requests are
    computed again; that makes the load of these traffics up to a quarter higher than its share.
    """
    mean = mean_of(bench, traffic)
    point, replicas = _full_point(bench, mean), bench.fleet.replicas
    return TrafficCapacity(
        replicas * point.output_tps / mean.output_tokens, replicas * point.draw_w
    )


def mean_of(bench: Bench, traffic: TrafficName) -> RequestLengths:
    """Return the mean request of a traffic as it reaches the fleet."""
    return TRAFFICS[traffic].mean_request(1.0, length_limits(_with_context(bench).config))


def ample(full_w: float, duration_s: float) -> scenarios.Happening:
    """Return more watts than the fleet can draw, at a steady load."""
    return replace(scenarios.ample(full_w, duration_s), name="ample", load_share=1.0)


HAPPENINGS: tuple[scenarios.Maker, ...] = (ample, scenarios.windy_day, scenarios.forty_steps)


def happening_of(bench: Bench, traffic: TrafficName, make: scenarios.Maker) -> scenarios.Happening:
    """Return a happening whose watts are shares of the draw at saturation with the traffic."""
    return make(capacity_of(bench, traffic).draw_w, bench.config.sim.duration_s)


def load_share(make: scenarios.Maker) -> float:
    """Return the load of a happening, share of what full clocks serve."""
    return AMPLE_SHARE if make is ample else SHORT_SHARE


def under(bench: Bench, traffic: TrafficName, make: scenarios.Maker) -> Bench:
    """Return the fleet with the requests of a traffic, as many as a happening has."""
    rate_rps = load_share(make) * capacity_of(bench, traffic).rate_rps
    depth = 0.0 if make is ample else DAILY_DEPTH
    return _loaded(bench, {"traffic": traffic, "rate_rps": rate_rps, "daily_depth": depth})


def switched(bench: Bench, before: TrafficName, after: TrafficName, at_s: float) -> Bench:
    """Return the fleet with a traffic that changes, at the same share of capacity."""
    rates_rps = [AMPLE_SHARE * capacity_of(bench, name).rate_rps for name in (before, after)]
    change = {"at_s": at_s, "traffic": after, "rate_rps": rates_rps[1]}
    load = {"traffic": before, "rate_rps": rates_rps[0], "daily_depth": 0.0}
    return _loaded(bench, {**load, "traffic_changes": [change]})


def _full_point(bench: Bench, lengths: RequestLengths) -> OperatingPoint:
    kind, largest = bench.fleet.kind, bench.config.engine.max_batch_limit
    return modelled_point(kind, kind.full_clock_mhz, largest, lengths)


def _loaded(bench: Bench, load: dict[str, object]) -> Bench:
    longer = _with_context(bench)
    section = LoadSection.model_validate(longer.config.load.model_dump() | load)
    config = longer.config.model_copy(update={"load": section})
    return replace(longer, config=config, arrivals=arrivals_for(config, 1.0))


def _with_context(bench: Bench) -> Bench:
    model = bench.config.model.model_copy(update={"max_model_len": LONGEST_CONTEXT})
    return replace(bench, config=bench.config.model_copy(update={"model": model}))


def names(makers: Sequence[scenarios.Maker]) -> list[str]:
    """Return the names that a command takes for happenings."""
    return [make.__name__ for make in makers]
