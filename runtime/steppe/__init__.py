"""Serve language models on the power there is."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

from steppe.errors import SteppeError

if TYPE_CHECKING:
    from steppe.batch import ray_data
    from steppe.control.plan import Plan
    from steppe.control.policy.policy import Policy, PoolFacts
    from steppe.control.state import Observation
    from steppe.energy.meter import EnergyMeter
    from steppe.power.signal import Fresh, Missing, Reading, Signal, Stale
    from steppe.report.result import RunResult
    from steppe.run.simulation import simulate

    __version__: str

__all__ = [
    "EnergyMeter",
    "Fresh",
    "Missing",
    "Observation",
    "Plan",
    "Policy",
    "PoolFacts",
    "Reading",
    "RunResult",
    "Signal",
    "Stale",
    "SteppeError",
    "ray_data",
    "simulate",
]

# Modules of the public names that are loaded at first use: `import steppe` stays light.
_MODULES = {
    "EnergyMeter": "steppe.energy.meter",
    "RunResult": "steppe.report.result",
    "simulate": "steppe.run.simulation",
    **dict.fromkeys(("Fresh", "Missing", "Reading", "Signal", "Stale"), "steppe.power.signal"),
    "Observation": "steppe.control.state",
    "Plan": "steppe.control.plan",
    "Policy": "steppe.control.policy.policy",
    "PoolFacts": "steppe.control.policy.policy",
}


_WHOLE_MODULES = {"ray_data": "steppe.batch.ray_data"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version(__name__)
    if name in _WHOLE_MODULES:
        return importlib.import_module(_WHOLE_MODULES[name])
    if name not in _MODULES:
        raise AttributeError(f"module 'steppe' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
