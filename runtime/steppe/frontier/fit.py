"""A smooth frontier through a few noisy windows.

A decode step streams the weights once (time `a`, whatever the clock and the batch), and
computes for each sequence (time `b` over the clock); prefill adds to the second. So the time
of an output token at batch limit n and relative clock f is

    1 / output_tps = a / n + b / f + c          a, b, c >= 0

the usual two-stage roofline reading (Williams et al. 2009) with an overhead c. The draw lies
between that of a step that only streams and one that only computes, by their share of time:

    draw_w = streaming_w(f) + (computing_w(f) - streaming_w(f)) (b / f) / (1 / output_tps)

with both watts free at each measured clock and interpolated between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from steppe.errors import InfeasibleError
from steppe.frontier.point import OperatingPoint

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FrontierFit:
    """Curves through measured operating points.

    Attributes:
        streaming_s: `a`, s.
        computing_s: `b`, s at the highest measured clock.
        overhead_s: `c`, s.
        clocks_mhz: Measured clocks, rising, MHz.
        streaming_w: Draw at each of them while only streaming, W.
        computing_w: Draw at each of them while only computing, W.
        tps_error: Median relative error of output_tps over the measured points.
        draw_error: Median relative error of draw_w over the measured points.
    """

    streaming_s: float
    computing_s: float
    overhead_s: float
    clocks_mhz: tuple[float, ...]
    streaming_w: tuple[float, ...]
    computing_w: tuple[float, ...]
    tps_error: float
    draw_error: float

    def point(self, clock_mhz: int, batch_limit: int) -> OperatingPoint:
        """Return the operating point at any clock and batch limit within what was measured."""
        relative = clock_mhz / self.clocks_mhz[-1] if clock_mhz else 1.0
        token_s = self.streaming_s / batch_limit + self.computing_s / relative + self.overhead_s
        share = self.computing_s / relative / token_s
        streaming_w = float(np.interp(clock_mhz, self.clocks_mhz, self.streaming_w))
        computing_w = float(np.interp(clock_mhz, self.clocks_mhz, self.computing_w))
        draw_w = streaming_w + (computing_w - streaming_w) * share
        return OperatingPoint(clock_mhz, batch_limit, 1 / token_s, draw_w, batch_limit * token_s)


def fit_frontier(points: Sequence[OperatingPoint]) -> FrontierFit:
    """Fit the curves to measured points by least squares of the relative error.

    Raises:
        InfeasibleError: Fewer than three points gave tokens.
    """
    used = [point for point in points if point.output_tps > 0]
    if len(used) < 3:
        raise InfeasibleError(f"asked for a frontier, found {len(used)} points that gave tokens")
    clocks = np.array([point.clock_mhz for point in used], dtype=float)
    batches = np.array([point.batch_limit for point in used], dtype=float)
    gives = np.array([point.output_tps for point in used])
    draws = np.array([point.draw_w for point in used])
    relative = clocks / clocks.max() if clocks.max() > 0 else np.ones_like(clocks)
    terms = np.stack([1 / batches, 1 / relative, np.ones_like(batches)], axis=1)
    (a, b, c), _ = nnls(terms * gives[:, None], np.ones(len(used)))
    token_s = terms @ np.array([a, b, c])
    shares = b / relative / token_s
    levels, streaming, computing = _draws(clocks, shares, draws)
    expected = np.interp(clocks, levels, streaming) * (1 - shares)
    expected += np.interp(clocks, levels, computing) * shares
    return FrontierFit(
        streaming_s=float(a),
        computing_s=float(b),
        overhead_s=float(c),
        clocks_mhz=tuple(levels.tolist()),
        streaming_w=tuple(streaming.tolist()),
        computing_w=tuple(computing.tolist()),
        tps_error=float(np.median(np.abs(1 / token_s / gives - 1))),
        draw_error=float(np.median(np.abs(expected / draws - 1))),
    )


def _draws(clocks: Floats, shares: Floats, draws: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the clocks, and at each the draw while streaming and while computing, W."""
    levels = np.unique(clocks)
    streaming, computing = np.empty(len(levels)), np.empty(len(levels))
    for i, level in enumerate(levels):
        at = clocks == level
        terms = np.stack([1 - shares[at], shares[at]], axis=1) / draws[at][:, None]
        (streaming[i], computing[i]), _ = nnls(terms, np.ones(at.sum()))
    return levels, streaming, computing
