"""Time and energy of steps, looked up, so that runs of them have closed sums.

Between knots, both are linear in the mean context of a sequence and in the prompt tokens of the
step. The model is evaluated only at the knots: at 1, 2, 3, 4, 6, 8, 12, 16, ... prompt tokens, and
at 0 and 32 times as many tokens of context. A model that is linear between the knots is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from steppe.roofline.energy_roofline import StepWork

KNOT_TOKENS = 32
"""The first knot of the mean context above 0, tokens."""


class StepModel(Protocol):
    """Time and draw of one replica: all its GPUs together, as `EnergyRoofline` gives them."""

    def step_s(self, work: StepWork, clock_mhz: int) -> float:
        """Return how long a step takes at this SM clock, s."""
        ...

    def step_draw_w(self, work: StepWork, clock_mhz: int) -> float:
        """Return the mean draw over the step, W."""
        ...

    def idle_w(self, clock_mhz: int) -> float:
        """Return the draw of an awake replica without work under this clock limit, W."""
        ...

    @property
    def asleep_w(self) -> float:
        """Draw of a frozen replica at the lowest clock, W."""
        ...


@dataclass(frozen=True, slots=True)
class Segment:
    """Decode steps between two knots of the context.

    A step over `S` tokens of context takes `first_s + slope_s (S - start)`, and so its energy.

    Attributes:
        start: Context at the lower knot, all sequences together, tokens.
        end: Context at the upper knot, tokens.
        first_s: Time at the lower knot, s.
        slope_s: Time for each token more, s.
        first_j: Energy at the lower knot, J.
        slope_j: Energy for each token more, J.
    """

    start: int
    end: int
    first_s: float
    slope_s: float
    first_j: float
    slope_j: float


Cell = tuple[int, float, Segment, Segment]
"""Lower knot of the prompt, one over its width, and the decode segment at both its knots."""


class StepTable:
    """Time and energy of every step of one kind of replica."""

    __slots__ = ("_cells", "_idle_w", "_model", "_segments")

    def __init__(self, model: StepModel) -> None:
        self._model = model
        self._segments: dict[tuple[int, int, int], Segment] = {}
        self._cells: dict[tuple[int, int, int, int], Cell] = {}
        self._idle_w: dict[int, float] = {}

    def idle_w(self, clock_mhz: int) -> float:
        """Return the draw of an awake replica without work, W."""
        draw_w = self._idle_w.get(clock_mhz)
        if draw_w is None:
            draw_w = self._idle_w[clock_mhz] = self._model.idle_w(clock_mhz)
        return draw_w

    def decode(self, clock_mhz: int, decodes: int, context: int) -> Segment:
        """Return the segment that a step of `decodes` sequences with this context lies on."""
        rung = _rung(context // decodes // KNOT_TOKENS)
        key = (clock_mhz, decodes, rung)
        segment = self._segments.get(key)
        if segment is None:
            segment = self._segments[key] = self._segment(clock_mhz, 0, decodes, rung)
        return segment

    def mixed(
        self, clock_mhz: int, prompt_tokens: int, decodes: int, context: int
    ) -> tuple[float, float]:
        """Return time and energy of a step that computes prompt tokens too, s and J."""
        rung = _rung(context // decodes // KNOT_TOKENS) if decodes else 0
        prompt_rung = _rung(prompt_tokens)
        key = (clock_mhz, decodes, rung, prompt_rung)
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = self._cell(clock_mhz, prompt_rung, decodes, rung)
        start, per_token, low, high = cell
        above = (prompt_tokens - start) * per_token
        more = context - low.start
        low_s = low.first_s + low.slope_s * more
        low_j = low.first_j + low.slope_j * more
        return (
            low_s + (high.first_s + high.slope_s * more - low_s) * above,
            low_j + (high.first_j + high.slope_j * more - low_j) * above,
        )

    def _cell(self, clock_mhz: int, prompt_rung: int, decodes: int, rung: int) -> Cell:
        start, end = _knot(prompt_rung), _knot(prompt_rung + 1)
        low = self._segment(clock_mhz, start, decodes, rung)
        return start, 1 / (end - start), low, self._segment(clock_mhz, end, decodes, rung)

    def _segment(self, clock_mhz: int, prompt_tokens: int, decodes: int, rung: int) -> Segment:
        start = decodes * KNOT_TOKENS * _knot(rung)
        end = decodes * KNOT_TOKENS * _knot(rung + 1)
        first_s, first_j = self._evaluate(StepWork(prompt_tokens, decodes, start), clock_mhz)
        if start == end:
            return Segment(start, end, first_s, 0.0, first_j, 0.0)
        last_s, last_j = self._evaluate(StepWork(prompt_tokens, decodes, end), clock_mhz)
        width = end - start
        slope_s, slope_j = (last_s - first_s) / width, (last_j - first_j) / width
        return Segment(start, end, first_s, slope_s, first_j, slope_j)

    def _evaluate(self, work: StepWork, clock_mhz: int) -> tuple[float, float]:
        step_s = self._model.step_s(work, clock_mhz)
        return step_s, step_s * self._model.step_draw_w(work, clock_mhz)


def _rung(value: int) -> int:
    """Return the largest rung whose knot is at most a value: 0 for 0, 1 for 1, 2 for 2, ..."""
    if value < 2:
        return value
    bits = value.bit_length()
    return 2 * (bits - 1) + (value >> bits - 2 & 1)


def _knot(rung: int) -> int:
    """Return the knots in order: 0, 1, 2, 3, 4, 6, 8, 12, 16, ..."""
    if rung < 2:
        return rung
    return (2 + rung % 2) << rung // 2 - 1
