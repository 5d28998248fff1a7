"""The open seam: what a policy is, what it is given, and how a class of your own is loaded.

`control.policy: package.module:Class` in the configuration runs such a class, live and simulated.
"""

from __future__ import annotations

import importlib
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, cast

from steppe.config import ControlSection, RunConfig
from steppe.control.plan import Plan
from steppe.control.sleep_ladder import SleepLadder, SleepRung, ladder_of
from steppe.control.state import Observation
from steppe.errors import ConfigError
from steppe.frontier.pareto import Frontier
from steppe.power.battery import BatteryView
from steppe.power.budget import PowerBudget

Foresight = Callable[[float, float, float], Sequence[tuple[float, float]]]
"""From now, horizon and step, s, to `(time, budget)` pairs, s and W: `PowerBudget.forecast`."""


class Policy(Protocol):
    """Chooses what the fleet runs.

    A class of your own is created with one argument, the `PoolFacts`, when a run begins. Its
    `decide` is then called once a control period and at each step of the budget. The plan is
    carried out as it is: to stay within `observation.gpu_budget_w` is the policy's own task.
    """

    def decide(self, observation: Observation) -> Plan:
        """Return the plan to hold until the next call."""
        ...


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What a policy is given; seconds are those of the run.

    Attributes:
        frontier: Operating points of one replica.
        replicas: Number of replicas when none is lost.
        gpus_per_replica: GPUs of one replica; the watts of a point are their sum.
        control: The `control` section of the configuration.
        tpot_s: Longest time per output token by the SLO, s.
        max_wait_s: Longest time that a request may wait, s.
        forecast: Forecast of the GPUs' budget.
        store: The battery, if there is one.
        speedup: Seconds of trace time in a second of the run.
        ttft_s: Longest time to the first token by the SLO, s.
        ladder: The depths of sleep; None if there is none below a pause.
    """

    frontier: Frontier
    replicas: int
    gpus_per_replica: int
    control: ControlSection
    tpot_s: float
    max_wait_s: float
    forecast: Foresight
    store: BatteryView | None = None
    speedup: float = 1.0
    ttft_s: float = math.inf
    ladder: SleepLadder | None = None

    @classmethod
    def of(
        cls,
        config: RunConfig,
        frontier: Frontier,
        replicas: int,
        budget: PowerBudget,
        rungs: tuple[SleepRung, ...] = (),
    ) -> Self:
        """Return the facts of a configured run.

        Args:
            config: The run.
            frontier: Operating points of one replica.
            replicas: Number of replicas when none is lost.
            budget: The power budget.
            rungs: The depths of sleep below a pause.
        """
        return cls(
            frontier=frontier,
            replicas=replicas,
            gpus_per_replica=config.fleet.gpus_per_replica,
            control=config.control,
            tpot_s=config.slo.tpot_s,
            ttft_s=config.slo.ttft_s,
            max_wait_s=config.gateway.max_wait_s,
            forecast=budget.forecast,
            store=budget.battery_view,
            speedup=config.power.speedup,
            ladder=ladder_of(rungs, frontier),
        )


@dataclass(frozen=True, slots=True)
class CheckedPolicy:
    """A policy from outside, whose plans are checked before they are carried out.

    Attributes:
        policy: The policy.
        name: Its `package.module:Class`.
    """

    policy: Policy
    name: str

    def decide(self, observation: Observation) -> Plan:
        """Return the policy's plan.

        Raises:
            ConfigError: It is no plan, or has more replicas awake than there are.
        """
        plan: object = self.policy.decide(observation)
        if not isinstance(plan, Plan):
            raise ConfigError(
                f"control.policy: asked {self.name}.decide for a steppe.Plan, "
                f"found {type(plan).__name__}"
            )
        serving = observation.counts.usable + observation.counts.draining
        if len(plan.awake) > serving:
            raise ConfigError(
                f"control.policy: {self.name}.decide asked for {len(plan.awake)} awake replicas, "
                f"found {serving} that can serve"
            )
        return plan


def load_policy(name: str) -> Callable[[PoolFacts], Policy]:
    """Return the class that `package.module:Class` names; the current folder is searched, too.

    Raises:
        ConfigError: It cannot be imported, or is no policy.
    """
    module_name, _, class_name = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise ConfigError(f"control.policy: asked for {name}, found: {error}") from error
    found = getattr(module, class_name, None)
    if not inspect.isclass(found) or not callable(getattr(found, "decide", None)):
        what = "no such class" if found is None else "no class with a decide method"
        raise ConfigError(f"control.policy: asked for {name}, found {what} in {module.__file__}")
    try:
        inspect.signature(found).bind(object())
    except TypeError as error:
        raise ConfigError(
            f"control.policy: {name} must take one argument, the steppe.PoolFacts: {error}"
        ) from error
    return cast(Callable[[PoolFacts], Policy], found)
