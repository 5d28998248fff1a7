"""Serve language models on the power there is."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from steppe.errors import SteppeError

if TYPE_CHECKING:
    from steppe.energy.meter import EnergyMeter

__all__ = ["EnergyMeter", "SteppeError"]

# Modules of the public names that are loaded at first use: `import steppe` stays light.
_MODULES = {"EnergyMeter": "steppe.energy.meter"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'steppe' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
