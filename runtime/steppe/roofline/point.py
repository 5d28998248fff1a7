"""One setting of one replica, and what it buys."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A clock and batch limit, and what a replica does under them.

    Attributes:
        clock_mhz: SM clock limit, MHz; 0 where it was measured with none.
        batch_limit: Most sequences the engine decodes at once.
        output_tps: Output tokens per second at saturation.
        draw_w: Mean draw of the replica's GPUs at saturation, W.
        tpot_s: Mean time per output token at saturation, s; 0 where it was not measured.
    """

    clock_mhz: int
    batch_limit: int
    output_tps: float
    draw_w: float
    tpot_s: float = 0.0

    @property
    def joules_per_token(self) -> float:
        """Energy per output token at saturation, J."""
        return self.draw_w / self.output_tps
