"""Signals: power over time, and what is known of it."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from steppe.config.section import LARGEST
from steppe.config.user_class import make_object, one_line
from steppe.errors import ConfigError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fresh:
    """A reading that is recent enough to use.

    Attributes:
        watts: Power, W.
        age_s: Age of the reading, s.
    """

    watts: float
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Stale:
    """A reading that is too old to use.

    Attributes:
        age_s: Age of the reading, s.
    """

    age_s: float


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no reading.

    Attributes:
        reason: Why, in one line.
    """

    reason: str


Reading = Fresh | Stale | Missing


@runtime_checkable
class Signal(Protocol):
    """Power over time from the user's own code: a plant, a market, a grid operator's limit.

    A class with this method can be a supply (`power.supply`) or a limit (`power.limits`) of the
    power budget, live and simulated::

        class Plant:
            def __init__(self, peak_w: float) -> None:
                self.peak_w = peak_w

            def at(self, time_s: float) -> steppe.Reading:
                return steppe.Fresh(self.peak_w * abs(math.sin(math.pi * time_s / 86400)))

        power:
          supply:
            - {kind: custom, signal: my_plant:Plant, settings: {peak_w: 800}}

    Steppe creates one object to check the configuration and, live, another one in the controller.

    A `Fresh` reading counts for `power.stale_s`. `Missing`, and an exception, leave the last fresh
    reading in use until it is that old. After that, and for `Stale`, the site budget is
    `power.fallback_w`.
    """

    def at(self, time_s: float) -> Reading:
        """Return the power at a time.

        Called several times per control period, from one thread, so it must not block: read a slow
        source in a thread of your own and return its last value.

        Args:
            time_s: Time since the run began, s, in trace time, which passes `power.speedup` times
                as fast as run time. The forecast of the budget asks for times ahead: return what is
                expected then, or the present value.
        """
        ...


class CheckedSignal:
    """A user's signal whose readings are checked and whose last fresh one is kept."""

    def __init__(self, signal: Signal, name: str) -> None:
        """Check nothing yet; `name` is the signal's name in log lines."""
        self._signal, self._name = signal, name
        self._kept: tuple[float, Fresh] | None = None
        self._reason = ""

    def at(self, time_s: float, stale_s: float) -> Reading:
        """Return the signal's reading, or the kept one where it is missing.

        Args:
            time_s: As in `Signal.at`.
            stale_s: Age at which a reading counts as stale, s of trace time.
        """
        reading = self._checked(time_s)
        if isinstance(reading, Missing) and self._kept is not None:
            kept_s, kept = self._kept
            reading = Fresh(kept.watts, kept.age_s + max(0.0, time_s - kept_s))
        if isinstance(reading, Fresh) and reading.age_s > stale_s:
            return Stale(reading.age_s)
        return reading

    def keep(self, now_s: float) -> None:
        """Keep the present reading for times at which the signal is missing."""
        reading = self._checked(now_s)
        if isinstance(reading, Fresh):
            self._kept = now_s, reading
        reason = reading.reason if isinstance(reading, Missing) else ""
        if reason and reason != self._reason:
            _log.warning("signal %s is missing: %s", self._name, reason)
        self._reason = reason

    def _checked(self, time_s: float) -> Reading:
        try:
            reading: object = self._signal.at(time_s)
        except Exception as error:  # noqa: BLE001 - the signal is the user's code
            return Missing(one_line(error))
        match reading:
            case Fresh(watts, age_s):
                return _in_range(watts, age_s)
            case Stale() | Missing():
                return reading
        return Missing(_wrong_type(reading))


def custom_signal(path: str, settings: dict[str, object]) -> CheckedSignal:
    """Return the signal of a class `package.module:Class`, after a first reading.

    Raises:
        ConfigError: The class cannot be made, has no method `at`, or `at` returns another type.
    """
    key = "power.supply"
    signal = make_object(path, settings, key)
    if not isinstance(signal, Signal):
        raise ConfigError(f"{key}: asked for a method `at` of {path}, found none")
    try:
        first: object = signal.at(0.0)
    except OSError as error:  # its source may appear later
        first = Missing(one_line(error))
    except Exception as error:
        raise ConfigError(f"{key}: {path}.at failed: {one_line(error)}") from error
    if not isinstance(first, Fresh | Stale | Missing):
        raise ConfigError(f"{key}: {path}.at: {_wrong_type(first)}")
    return CheckedSignal(signal, path)


def _in_range(watts: Any, age_s: Any) -> Fresh | Missing:
    """Return a fresh reading of numbers from 0 to `LARGEST`; missing if they are not."""
    try:
        watts, age_s = float(watts), float(age_s)
    except (TypeError, ValueError):
        return Missing(f"asked for numbers, found {watts!r} W, {age_s!r} s old")
    if not math.isfinite(watts + age_s) or watts > LARGEST:
        return Missing(f"asked for at most {LARGEST:g} W, found {watts:g} W, {age_s:g} s old")
    return Fresh(max(0.0, watts), max(0.0, age_s))


def _wrong_type(reading: object) -> str:
    return f"asked for Fresh, Stale or Missing, found {type(reading).__name__}"
