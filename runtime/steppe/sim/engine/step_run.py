"""A run of engine steps over the same sequences, in closed form."""

from __future__ import annotations

from math import sqrt


class StepRun:
    """Consecutive steps of the same sequences.

    Step `i`, from 0, takes `first_s + slope_s i` seconds and `first_j + slope_j i` joules.

    Attributes:
        start_s: Begin of the first step, s.
        steps: Number of steps.
        first_s: Time of the first step, s.
        slope_s: Increase of the time from step to step, s.
        first_j: Energy of the first step, J.
        slope_j: Increase of the energy from step to step, J.
    """

    __slots__ = ("first_j", "first_s", "slope_j", "slope_s", "start_s", "steps")

    def __init__(
        self,
        start_s: float,
        steps: int,
        *,
        first_s: float,
        first_j: float,
        slope_s: float = 0.0,
        slope_j: float = 0.0,
    ) -> None:
        self.start_s, self.steps = start_s, steps
        self.first_s, self.slope_s = first_s, slope_s
        self.first_j, self.slope_j = first_j, slope_j

    def span_s(self, steps: int) -> float:
        """Return the time of the first `steps` steps, s."""
        return steps * (self.first_s + self.slope_s * (steps - 1) / 2)

    def energy_j(self, steps: int) -> float:
        """Return the energy of the first `steps` steps, J."""
        return steps * (self.first_j + self.slope_j * (steps - 1) / 2)

    def done_by(self, now_s: float) -> int:
        """Return the number of steps that have ended by a time."""
        elapsed_s = now_s - self.start_s
        if self.steps == 1:
            return 1 if elapsed_s >= self.first_s else 0
        # The root of steps * (first + slope (steps - 1) / 2) = elapsed, for any slope near 0.
        even_s = self.first_s - self.slope_s / 2
        rooted = even_s * even_s + 2 * self.slope_s * elapsed_s
        guess = 2 * elapsed_s / (even_s + sqrt(rooted)) if rooted > 0 else self.steps
        done = max(0, min(self.steps, int(guess)))
        while done < self.steps and self.span_s(done + 1) <= elapsed_s:
            done += 1
        while done > 0 and self.span_s(done) > elapsed_s:
            done -= 1
        return done

    def drawn_by(self, now_s: float, done: int) -> float:
        """Return the energy by a time by which `done` steps have ended, J."""
        if done == self.steps:
            return self.energy_j(done)
        into_s = max(0.0, now_s - self.start_s - self.span_s(done))
        draw_w = (self.first_j + self.slope_j * done) / (self.first_s + self.slope_s * done)
        return self.energy_j(done) + into_s * draw_w
