"""One setting of a replica, and its output and draw."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A clock and batch limit, and a replica's output and draw under them.

    Attributes:
        clock_mhz: SM clock limit, MHz; 0 if measured without one.
        batch_limit: Most sequences the engine decodes at once.
        output_tps: Output tokens per second at saturation.
        draw_w: Mean draw of the replica's GPUs at saturation, W.
        tpot_s: Mean time per output token at saturation, s; 0 if not measured.
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
