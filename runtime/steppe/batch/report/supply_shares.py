"""How much of a job's energy the supply covered, and how much it would have covered at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steppe.batch.report.power_series import PowerSeries
from steppe.batch.report.row_spans import Floats

FASTEST = 0.95
"""The pace of a job that runs at once: this quantile of its draw over the time in which it ran."""


@dataclass(frozen=True, slots=True)
class SupplyShares:
    """Where a job's energy came from.

    Attributes:
        renewable: Share that supply other than bought power covered, if it covers every draw of
            the site alike.
        surplus: Share that it covered, if it covers everything but this job first.
        known: Share of the energy for which supply and draw are known.
    """

    renewable: float
    surplus: float
    known: float


@dataclass(frozen=True, slots=True)
class AtOnce:
    """What the job would have done if it had run without waiting, from the moment it was made.

    Attributes:
        draw_w: Its draw, W: the pace that it reached when it ran fastest.
        runs_s: How long it would have run, s: the same joules at that draw.
        ends_epoch_s: When it would have ended, s since the Unix epoch.
        surplus: Share of its energy that supply other than bought power would have covered after
            everything else.
        known: Share of that time for which supply and draw are known.
        energy_j: Its energy, J: that of the job as it ran, wasted energy included.
    """

    draw_w: float
    runs_s: float
    ends_epoch_s: float
    surplus: float | None
    known: float
    energy_j: float

    @property
    def uncovered_j(self) -> float | None:
        """Energy that the surplus would not have covered, J; None if that is not known."""
        return None if self.surplus is None else self.energy_j * (1.0 - self.surplus)


def supply_shares(series: PowerSeries, boundary: str) -> SupplyShares | None:
    """Return where a job's energy came from; None if that is not known for any of it.

    Args:
        series: What the job and its fleet drew.
        boundary: What the joules of the rows enclose: `gpu`, `node` or `site`.
    """
    batch_w = series.batch_w * _gpu_ratio(series, boundary)
    left_w = _left_w(series, batch_w)
    known = np.isfinite(left_w) & np.isfinite(series.renewable_w) & (batch_w > 0)
    if not known.any():
        return None
    energy = series.batch_w[known]
    site_w = np.maximum(series.site_draw_w[known], batch_w[known])
    renewable = np.minimum(1.0, series.renewable_w[known] / site_w)
    surplus = np.minimum(1.0, left_w[known] / batch_w[known])
    return SupplyShares(
        renewable=float(np.average(renewable, weights=energy)),
        surplus=float(np.average(surplus, weights=energy)),
        known=float(energy.sum() / series.batch_w.sum()),
    )


def at_once(series: PowerSeries, boundary: str) -> AtOnce | None:
    """Return what running without waiting would have done; None if the job drew nothing.

    Args:
        series: What the job and its fleet drew, from the moment the job was made.
        boundary: What the joules of the rows enclose: `gpu`, `node` or `site`.
    """
    energy_j = float(series.batch_w.sum()) * series.step_s
    ran = series.busy > 0.5
    ran = ran if ran.any() else series.busy > 0
    if energy_j <= 0 or not ran.any():
        return None
    draw_w = float(np.quantile(series.batch_w[ran] / series.busy[ran], FASTEST))
    runs_s = energy_j / draw_w
    ratio = _gpu_ratio(series, boundary)
    left_w = _left_w(series, series.batch_w * ratio)
    begun_s = series.edges_s[0]
    inside_s = np.clip(begun_s + runs_s - series.edges_s[:-1], 0.0, series.step_s)
    known = np.isfinite(left_w) & (inside_s > 0)
    surplus = None
    if known.any():
        covered = np.minimum(1.0, left_w[known] / (draw_w * ratio[known]))
        surplus = float(np.average(covered, weights=inside_s[known]))
    known_share = float(min(1.0, inside_s[known].sum() / runs_s))
    return AtOnce(draw_w, runs_s, float(begun_s + runs_s), surplus, known_share, energy_j)


def _gpu_ratio(series: PowerSeries, boundary: str) -> Floats:
    """Return the watts of the GPUs for each watt of a row, nan where they are not known."""
    if boundary == "gpu":
        return np.ones(len(series.draw_w))
    known = np.isfinite(series.draw_w) & np.isfinite(series.site_draw_w) & (series.draw_w > 0)
    ratio = np.full(len(series.draw_w), np.nan)
    ratio[known] = np.minimum(1.0, series.draw_w[known] / series.site_draw_w[known])
    return ratio


def _left_w(series: PowerSeries, batch_w: Floats) -> Floats:
    """Return what all other draw of the GPUs left of the surplus, W."""
    others_w = np.maximum(0.0, series.draw_w - batch_w)
    left_w: Floats = np.maximum(0.0, series.surplus_w - others_w)
    return left_w
