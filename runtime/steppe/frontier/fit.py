"""A smooth frontier from a few short windows of a saturated replica.

An engine step streams the weights once (time `a`, whatever clock and batch), streams keys and
values of every token that decodes (`d`, whatever the clock), and computes for each token; so a
window in which the engine was never idle takes

    duration_s = a steps + d output_tokens + (b output_tokens + c prompt_tokens) / f
                                                                            a, b, c, d >= 0

with f the clock over the highest: the usual two-stage roofline reading (Williams et al. 2009).
Counting steps and tokens makes short windows precise, although their mix of prompt and output
tokens rarely equals that of a long run. The draw lies between that of a step that
only streams and one that only computes, by their share of time; both are free at each
measured clock and interpolated between. Real engines overlap streaming and computing, which the
form leaves out: `time_tail` and `draw_tail` say how far the windows lie from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from steppe.errors import InfeasibleError
from steppe.roofline.point import OperatingPoint

Floats = NDArray[np.float64]
FEWEST_FOR_CACHE = 6
"""Fewest windows from which four times are found; with fewer there would be nothing to check."""
TAIL = 0.9
"""The part of the windows that are within the tails of a fit."""


@dataclass(frozen=True, slots=True)
class SweepWindow:
    """The work of a saturated replica in one window.

    Attributes:
        clock_mhz: SM clock limit, MHz; 0 if it cannot be set.
        batch_limit: Batch limit.
        duration_s: Length, s.
        energy_j: Energy of its GPUs, J.
        steps: Engine steps.
        prompt_tokens: Prompt tokens computed.
        output_tokens: Tokens sampled.
    """

    clock_mhz: int
    batch_limit: int
    duration_s: float
    energy_j: float
    steps: int
    prompt_tokens: int
    output_tokens: int

    @property
    def draw_w(self) -> float:
        """Mean draw, W."""
        return self.energy_j / self.duration_s


@dataclass(frozen=True, slots=True)
class FrontierFit:
    """Curves through measured windows.

    Attributes:
        streaming_s: `a`, s a step.
        cache_s: `d`, s a token at any clock; 0 where the windows do not separate it from `b`.
        decode_s: `b`, s a token at the highest measured clock.
        prefill_s: `c`, s a token at the highest measured clock.
        steps_per_round: Steps in which a full batch samples one token each; slightly
            above 1, because a sequence samples none while its prompt is computed.
        clocks_mhz: Measured clocks, rising, MHz.
        streaming_w: Draw at each of them while only streaming, W.
        computing_w: Draw at each of them while only computing, W.
        time_error: Median relative error of the duration over the windows.
        draw_error: Median relative error of the draw over the windows.
        time_tail: Relative error of the duration that a tenth of the windows exceed.
        draw_tail: Relative error of the draw that a tenth of the windows exceed.
    """

    streaming_s: float
    cache_s: float
    decode_s: float
    prefill_s: float
    steps_per_round: float
    clocks_mhz: tuple[float, ...]
    streaming_w: tuple[float, ...]
    computing_w: tuple[float, ...]
    time_error: float
    draw_error: float
    time_tail: float
    draw_tail: float

    def point(
        self, clock_mhz: int, batch_limit: int, prompt_tokens_per_output: float
    ) -> OperatingPoint:
        """Return the operating point at any clock and batch limit within what was measured.

        Args:
            clock_mhz: SM clock limit, MHz.
            batch_limit: Batch limit.
            prompt_tokens_per_output: The mix of the load.
        """
        relative = clock_mhz / self.clocks_mhz[-1] if clock_mhz else 1.0
        streaming_s = self.streaming_s * self.steps_per_round / batch_limit + self.cache_s
        computing_s = (self.decode_s + self.prefill_s * prompt_tokens_per_output) / relative
        token_s = streaming_s + computing_s
        streaming_w = float(np.interp(clock_mhz, self.clocks_mhz, self.streaming_w))
        computing_w = float(np.interp(clock_mhz, self.clocks_mhz, self.computing_w))
        draw_w = (streaming_w * streaming_s + computing_w * computing_s) / token_s
        return OperatingPoint(clock_mhz, batch_limit, 1 / token_s, draw_w, batch_limit * token_s)


def fit_frontier(windows: Sequence[SweepWindow]) -> FrontierFit:
    """Fit the curves by least squares of the relative error, no coefficient below 0.

    Raises:
        InfeasibleError: Fewer than three windows gave tokens.
    """
    used = [window for window in windows if window.output_tokens]
    if len(used) < 3:
        raise InfeasibleError(f"asked for a frontier, found {len(used)} windows that gave tokens")
    clocks = np.array([window.clock_mhz for window in used], dtype=float)
    relative = clocks / clocks.max() if clocks.max() > 0 else np.ones_like(clocks)
    durations = np.array([window.duration_s for window in used])
    steps = np.array([window.steps for window in used], dtype=float)
    outputs = np.array([window.output_tokens for window in used], dtype=float)
    prompts = np.array([window.prompt_tokens for window in used], dtype=float)
    flat = outputs if _separates_cache(clocks) else np.zeros_like(outputs)
    terms = np.stack([steps, flat, outputs / relative, prompts / relative], axis=1)
    found, _ = nnls(terms / durations[:, None], np.ones(len(used)))
    expected_s = terms @ found
    shares = 1 - terms[:, :2] @ found[:2] / expected_s
    draws = np.array([window.draw_w for window in used])
    levels, streaming, computing = _draws(clocks, shares, draws)
    expected_w = np.interp(clocks, levels, streaming) * (1 - shares)
    expected_w += np.interp(clocks, levels, computing) * shares
    batches = np.array([window.batch_limit for window in used])
    time_errors, draw_errors = np.abs(expected_s / durations - 1), np.abs(expected_w / draws - 1)
    return FrontierFit(
        **dict(
            zip(("streaming_s", "cache_s", "decode_s", "prefill_s"), found.tolist(), strict=True)
        ),
        steps_per_round=float(np.median(steps * batches / outputs)),
        clocks_mhz=tuple(levels.tolist()),
        streaming_w=tuple(streaming.tolist()),
        computing_w=tuple(computing.tolist()),
        time_error=float(np.median(time_errors)),
        draw_error=float(np.median(draw_errors)),
        time_tail=float(np.quantile(time_errors, TAIL)),
        draw_tail=float(np.quantile(draw_errors, TAIL)),
    )


def _separates_cache(clocks: Floats) -> bool:
    """Return whether the windows separate what a token costs at any clock from the rest."""
    return len(np.unique(clocks)) > 1 and len(clocks) >= FEWEST_FOR_CACHE


def _draws(clocks: Floats, shares: Floats, draws: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the clocks, and at each the draw while streaming and while computing, W."""
    levels = np.unique(clocks)
    streaming, computing = np.empty(len(levels)), np.empty(len(levels))
    for i, level in enumerate(levels):
        at = clocks == level
        terms = np.stack([1 - shares[at], shares[at]], axis=1) / draws[at][:, None]
        (streaming[i], computing[i]), _ = nnls(terms, np.ones(at.sum()))
    return levels, streaming, computing
