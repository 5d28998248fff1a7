"""How fast a GPU follows its limits: a clock limit, and a power limit down and up again.

Changes settings, and undoes them. On an idle GPU the clock is low already and the power is below
every limit, so nothing changes and the lag is None. Run a load beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from steppe.device.gpu import TOLERANCE_MHZ
from steppe.device.nvml import NvmlGpu
from steppe.device.pacing import CHANGE_PERIOD_S

WATCHED_S = 2.0
POLL_S = 0.002
# Share of a step after which a first-order lag has passed one time constant.
_ONE_TAU = 0.632
_LEAST_STEP_W = 5.0


class LimitSetters(Protocol):
    """Sets limits; `AgentClient` is one."""

    def set_clock_limit(self, uuid: str, clock_mhz: int) -> int:
        """Limit the SM clock, MHz."""
        ...

    def set_power_limit(self, uuid: str, limit_w: float) -> float:
        """Limit the board power, W."""
        ...

    def reset(self, uuid: str | None = None) -> None:
        """Undo the limits."""
        ...


@dataclass(frozen=True, slots=True)
class ResponseTiming:
    """A clock, s, and a way to wait, s."""

    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


REAL_TIME = ResponseTiming()


def record_steps(
    gpus: Sequence[NvmlGpu], limits: LimitSetters, timing: ResponseTiming = REAL_TIME
) -> Mapping[str, dict[str, Any]]:
    """Step the limits of every GPU, one after the other; return the responses, by UUID.

    Each step has `call_s` (the setter), `lag_s` (until 63 % of the change; None if nothing
    changed), and the readings `t_s` and `values`.

    Raises:
        DeviceError: A GPU refused; the limits are undone.
        AgentError: The agent refused or is gone.
    """
    return {gpu.uuid: _steps(gpu, limits, timing) for gpu in gpus}


def _steps(gpu: NvmlGpu, limits: LimitSetters, timing: ResponseTiming) -> dict[str, Any]:
    can, found = gpu.capabilities, {}
    try:
        if can.has_clock_limit:
            lowest_mhz = can.sm_clocks_mhz[0]
            found["clock_limit"] = _step(
                lambda: limits.set_clock_limit(gpu.uuid, lowest_mhz),
                gpu.sm_clock_mhz,
                timing,
                float(TOLERANCE_MHZ),
            )
            timing.pause(CHANGE_PERIOD_S)
            limits.reset(gpu.uuid)
            timing.pause(CHANGE_PERIOD_S)
        if can.power_limit_range_w is not None:
            lowest_w = can.power_limit_range_w[0]
            found["power_limit_down"] = _step(
                lambda: limits.set_power_limit(gpu.uuid, lowest_w),
                gpu.power_w,
                timing,
                _LEAST_STEP_W,
            )
            found["power_limit_up"] = _step(
                lambda: limits.reset(gpu.uuid), gpu.power_w, timing, _LEAST_STEP_W
            )
    finally:
        limits.reset(gpu.uuid)
    return found


def _step(
    change: Callable[[], object], read: Callable[[], float], timing: ResponseTiming, least: float
) -> dict[str, Any]:
    """Make a change, record a reading, and find when 63 % of the change was reached."""
    before, start_s = read(), timing.clock()
    change()
    call_s = timing.clock() - start_s
    times_s, values = [0.0], [before]
    while timing.clock() < start_s + WATCHED_S:
        timing.pause(POLL_S)
        value = read()
        if value != values[-1]:
            times_s.append(round(timing.clock() - start_s, 6))
            values.append(value)
    return {"call_s": call_s, "lag_s": _lag_s(times_s, values, least), "t_s": times_s} | {
        "values": values
    }


def _lag_s(times_s: Sequence[float], values: Sequence[float], least: float) -> float | None:
    change = values[-1] - values[0]
    if abs(change) < least:
        return None
    shares = [(value - values[0]) / change for value in values]
    return next(t_s for t_s, share in zip(times_s, shares, strict=True) if share >= _ONE_TAU)
