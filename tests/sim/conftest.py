from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from steppe.roofline.energy_roofline import StepWork


@dataclass(frozen=True, slots=True)
class CurvedModel:
    """A made-up replica whose steps are curved in everything: 1.2 GHz is its full clock."""

    def step_s(self, work: StepWork, clock_mhz: int) -> float:
        memory_s = 0.01 + 2e-6 * work.context_tokens
        compute_s = (2e-4 * work.decode_sequences + 5e-5 * work.prefill_tokens) * 1200 / clock_mhz
        return float((memory_s**4 + compute_s**4) ** 0.25)

    def step_draw_w(self, work: StepWork, clock_mhz: int) -> float:
        busy = work.decode_sequences + work.prefill_tokens
        return 100 + 200 * clock_mhz / 1200 * busy / (busy + 20)

    def idle_w(self, clock_mhz: int) -> float:
        return 50 + clock_mhz / 60

    @property
    def asleep_w(self) -> float:
        return 40.0


@pytest.fixture(scope="session")
def curved_model() -> CurvedModel:
    return CurvedModel()


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """Return the step-by-step simulation that lies beside this file."""
    path = Path(__file__).with_name("reference.py")
    spec = importlib.util.spec_from_file_location("steppe_sim_reference", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
