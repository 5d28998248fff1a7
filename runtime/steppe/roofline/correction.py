"""The corrections of one model on its GPUs, tabulated so that a step looks them up quickly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from steppe.roofline.residual_model import Context, Floats, ResidualModel, features_of

BATCHES = 13
"""Powers of two from 1 to 4096."""
_FIRST_CONTEXT = 6
CONTEXTS = 11
"""Powers of two from 64 to 65536 tokens."""
PREFILLED = 16.0
"""Prompt tokens for each output token up to which a larger batch must give more tokens."""

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Correction:
    """Factors on time and draw over batch (rows) and mean context (columns), by powers of two.

    Attributes:
        time: Factor on the time of a step.
        draw: Factor on its draw.
    """

    time: Rows
    draw: Rows

    @classmethod
    def of(
        cls, likeness: ResidualModel, place: Context, step_s: Callable[[float, float, float], float]
    ) -> Correction:
        """Tabulate what likeness says, no further than batching stays worth while.

        Args:
            likeness: What is known.
            place: The model and its GPUs; its batch and context do not count.
            step_s: Uncorrected time of a step, s, by sequences, mean context, and prompt tokens
                for each sequence.
        """
        places = [
            replace(place, batch=2.0**i, context_tokens=2.0 ** (_FIRST_CONTEXT + j))
            for i in range(BATCHES)
            for j in range(CONTEXTS)
        ]
        log_time, log_draw = likeness.corrections([features_of(p) for p in places])
        shape = (BATCHES, CONTEXTS)
        lightest, heaviest = (
            np.array([step_s(p.batch, p.context_tokens, each) for p in places]).reshape(shape)
            for each in (0.0, PREFILLED)
        )
        time = _rising(lightest, heaviest, np.exp(log_time).reshape(shape))
        return cls(_rows(time), _rows(np.exp(log_draw).reshape(shape)))

    def factors(self, sequences: float, context_tokens: float) -> tuple[float, float]:
        """Return the factors on time and draw for sequences of this context in all."""
        x = math.log2(sequences) if sequences > 1 else 0.0
        mean = context_tokens / sequences if sequences > 0 else 0.0
        y = math.log2(mean) - _FIRST_CONTEXT if mean > 64.0 else 0.0
        x, y = min(x, BATCHES - 1.001), min(y, CONTEXTS - 1.001)
        i, j = int(x), int(y)
        return _between(self.time, i, j, x - i, y - j), _between(self.draw, i, j, x - i, y - j)


def _between(table: Rows, i: int, j: int, right: float, down: float) -> float:
    """Return the bilinear mean of four neighbours."""
    row, following = table[i], table[i + 1]
    here = row[j] + down * (row[j + 1] - row[j])
    there = following[j] + down * (following[j + 1] - following[j])
    return here + right * (there - here)


def _rising(lightest: Floats, heaviest: Floats, factors: Floats) -> Floats:
    """Hold the factors to what physics allows: a larger batch takes longer, less per sequence."""
    held = factors.copy()
    for i in range(1, len(held)):
        least = held[i - 1] * lightest[i - 1] / lightest[i]
        most = 1.99 * held[i - 1] * heaviest[i - 1] / heaviest[i]
        held[i] = np.clip(held[i], least, most)
    return held


def _rows(table: Floats) -> Rows:
    return tuple(tuple(float(value) for value in row) for row in table)
