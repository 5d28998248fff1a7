"""What can be known of the power supply before a run."""

from __future__ import annotations

import math
import time

from steppe.config import ConstantSupply, PowerSection, SignalSupply
from steppe.errors import ConfigError
from steppe.power.budget import PowerBudget
from steppe.power.signal import Fresh, Missing, Stale
from steppe.power.signal_file import SignalFile, SignalReader
from steppe.run.warnings import Warn

REWRITTEN_S = 0.1
"""A signal file that is being rewritten can be read this much later, s."""


def warn_of_early_end(
    power: PowerSection, budget: PowerBudget, duration_s: float, warn: Warn
) -> None:
    """Warn if a supply trace ends before the run.

    Args:
        power: Where the budget comes from.
        budget: The budget.
        duration_s: Length of the run, s; infinite if it has no end.
        warn: Takes the warning.
    """
    if budget.ends_s + power.stale_s < duration_s:
        whole = f"a run of {duration_s:g} s" if duration_s < math.inf else "a run without an end"
        warn(
            f"power.supply: a trace ends {budget.ends_s:g} s into {whole}; "
            f"{power.stale_s:g} s later the budget is that of power.fallback_w, "
            f"{power.fallback_w:g} W"
        )


def with_held_signals(power: PowerSection) -> PowerSection:
    """Read signal files once and return them as constant sources, for a simulation.

    A live run may begin without them, on `fallback_w`, and reads them again and again. A
    simulation would be over before its signal came, and how often it is rewritten in a second
    of the run would depend on the speed of this computer.

    Raises:
        ConfigError: A signal cannot be read, or is stale.
    """
    held = {
        key: tuple(
            _constant_of(part, f"power.{key}.{index}", power.stale_s)
            if isinstance(part, SignalSupply)
            else part
            for index, part in enumerate(parts)
        )
        for key, parts in (("supply", power.supply), ("limits", power.limits))
    }
    return power.model_copy(update=held)


def _constant_of(supply: SignalSupply, key: str, stale_s: float) -> ConstantSupply:
    signal = SignalReader(SignalFile(supply.path, stale_s, time.time))
    reading = signal.read()
    if isinstance(reading, Missing):
        time.sleep(REWRITTEN_S)
        reading = signal.read()
    head = f"{key}.path: a simulation needs a signal from its start"
    match reading:
        case Fresh(watts):
            return ConstantSupply(kind="constant", watts=watts)
        case Missing(reason):
            raise ConfigError(f"{head}: {reason}")
        case Stale(age_s):
            limit = f"power.stale_s is {stale_s:g} s"
            raise ConfigError(f"{head}: {supply.path} is {age_s:.0f} s old, {limit}")
