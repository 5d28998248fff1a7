"""Divide the joules of a replica among the requests that caused them, to the microjoule.

In a window, the energy for the time without engine steps is idle energy. The rest is divided
among the steps by their duration, and within a step among its requests by weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

UJ_PER_J = 1_000_000


@dataclass(frozen=True, slots=True)
class TokenWeights:
    """The relative cost of a token.

    Attributes:
        sequence: Part of a step that each of its sequences carries, such as its share of
            streaming the weights.
        prompt: One prompt token.
        decode: One token after the prompt.
    """

    sequence: float = 0.0
    prompt: float = 1.0
    decode: float = 1.0


@dataclass(frozen=True, slots=True)
class BusyStep:
    """One engine step.

    Attributes:
        duration_s: How long it took, s.
        weights: Weight of each request in it, by key.
    """

    duration_s: float
    weights: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Shares:
    """The parts of the energy of a window; they sum to the whole exactly.

    Attributes:
        requests_uj: Energy of each request, by key, uJ.
        idle_uj: Energy of awake or sleeping replicas without work, uJ.
        transition_uj: Energy of starting and restarting, uJ.
    """

    requests_uj: Counter[int] = field(default_factory=Counter)
    idle_uj: int = 0
    transition_uj: int = 0


def share_out(total_uj: int, weights: Mapping[int, float]) -> dict[int, int]:
    """Split whole microjoules by weight, so that the parts sum to `total_uj` exactly.

    Largest-remainder method; ties go to the smaller key.
    """
    whole = sum(weights.values())
    if whole <= 0:
        return {}
    exact = {key: total_uj * weight / whole for key, weight in weights.items()}
    parts = {key: int(value) for key, value in exact.items()}
    left = total_uj - sum(parts.values())
    by_remainder = sorted(exact, key=lambda key: (parts[key] - exact[key], key))
    for i in range(abs(left)):
        parts[by_remainder[i % len(by_remainder)]] += 1 if left > 0 else -1
    return parts


def attribute(energy_j: float, window_s: float, idle_w: float, steps: Sequence[BusyStep]) -> Shares:
    """Divide the energy of one replica in one window.

    Args:
        energy_j: Energy of its GPUs in the window, J.
        window_s: Length of the window, s.
        idle_w: Draw of the replica while it does not step, W; while it steps it draws no less.
        steps: The steps that ended in the window.
    """
    total_uj = round(energy_j * UJ_PER_J)
    busy_s = sum(step.duration_s for step in steps)
    weights = _weights(steps)
    if sum(weights.values()) <= 0:
        return Shares(idle_uj=total_uj)
    idle_s = max(0.0, window_s - busy_s)
    most_w = energy_j / window_s if idle_s > 0 else 0.0
    idle_uj = min(total_uj, round(min(idle_w, most_w) * idle_s * UJ_PER_J))
    requests = Counter(share_out(total_uj - idle_uj, weights))
    return Shares(requests_uj=requests, idle_uj=idle_uj)


def _weights(steps: Sequence[BusyStep]) -> dict[int, float]:
    """Return the busy seconds of each request over all steps."""
    result: dict[int, float] = {}
    for step in steps:
        whole = sum(step.weights.values())
        if whole <= 0:
            continue
        for key, weight in step.weights.items():
            result[key] = result.get(key, 0.0) + step.duration_s * weight / whole
    return result
