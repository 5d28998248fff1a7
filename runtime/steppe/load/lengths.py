"""Prompt and output lengths, drawn together as a fitted mixture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.load.arrivals import LengthLimits


@dataclass(frozen=True, slots=True)
class LengthComponent:
    """One two-dimensional lognormal: a kind of request.

    Attributes:
        weight: Share of the requests.
        prompt_log: Mean of ln(prompt tokens).
        output_log: Mean of ln(output tokens).
        prompt_spread: Standard deviation of ln(prompt tokens).
        output_spread: Standard deviation of ln(output tokens).
        correlation: Correlation of the two logarithms.
    """

    weight: float
    prompt_log: float
    output_log: float
    prompt_spread: float
    output_spread: float
    correlation: float


@dataclass(frozen=True, slots=True)
class LengthMixture:
    """Several kinds of request, and the longest of the trace.

    Attributes:
        components: The kinds; their weights add up to 1.
        longest: Longest prompt and output before scaling, tokens.
    """

    components: tuple[LengthComponent, ...]
    longest: LengthLimits

    def draw(
        self, rng: np.random.Generator, count: int, length_scale: float, limits: LengthLimits
    ) -> NDArray[np.int64]:
        """Draw prompt and output lengths, tokens, shape (count, 2).

        Args:
            rng: Random number generator.
            count: How many requests.
            length_scale: Factor on both lengths, after the mixture's own cut at `longest`.
            limits: What the scaled lengths are clipped to; never below 1.

        Raises:
            ValueError: `length_scale` is not positive.
        """
        if not length_scale > 0:
            raise ValueError(f"asked for a length scale above 0, found {length_scale:g}")
        weights = np.array([part.weight for part in self.components])
        means = np.array([(part.prompt_log, part.output_log) for part in self.components])
        roots = np.array([_root(part) for part in self.components])
        kind = rng.choice(len(weights), size=count, p=weights / weights.sum())
        noise = rng.standard_normal((count, 2))
        lengths = np.exp(means[kind] + np.einsum("nij,nj->ni", roots[kind], noise))
        longest = (self.longest.prompt_tokens, self.longest.output_tokens)
        allowed = (limits.prompt_tokens, limits.output_tokens)
        with np.errstate(over="ignore"):  # what is infinite is clipped
            scaled = np.minimum(lengths, longest) * length_scale
        in_tokens: NDArray[np.int64] = np.rint(np.clip(scaled, 1, allowed)).astype(np.int64)
        return in_tokens


def _root(part: LengthComponent) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the lower Cholesky factor of the component's covariance."""
    independent = (1 - part.correlation**2) ** 0.5
    return (
        (part.prompt_spread, 0.0),
        (part.output_spread * part.correlation, part.output_spread * independent),
    )
