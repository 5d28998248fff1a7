"""How the sequences of a run come and go: what has been decoded when the run is measured.

In a service without end a running sequence has decoded more of its answer than half, for long
answers are met more often. A benchmark begins with everybody at once and ends when nobody waits:
the fewer answers it asks of each place in the batch, the shorter is what attention reads, and the
fewer answers end. Answers are taken to spread as an Erlang distribution of two stages (standard
deviation 0.71 of the mean; assumed), whose renewal function is known in closed form (Cox, Renewal
Theory, 1962, section 4.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

_PARTS = 200


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far the answers of a run have come, on average over it.

    Attributes:
        decoded: Tokens that a running sequence has decoded, over the mean answer.
        ends: Answers that end in a step, over those that end in a service without end.
    """

    decoded: float
    ends: float

    @classmethod
    def of_run(cls, waves: float) -> RunProgress:
        """Return what a run shows that begins with a full batch and ends when nobody waits.

        Args:
            waves: Answers that it asks for, over those that decode at once; above 1.
        """
        end = _end(waves - 1.0)
        ages = [_age((part + 0.5) / _PARTS * end) for part in range(_PARTS)]
        return cls(sum(ages) / _PARTS, (waves - 1.0) / end)


STEADY_SERVICE = RunProgress(0.75, 1.0)
"""A service without end: half of (1 + variance over squared mean) decoded."""


def _end(ended: float) -> float:
    """Return after how many mean answers each place in the batch has seen so many end."""
    low, high = 0.0, ended + 0.25
    for _ in range(60):
        middle = 0.5 * (low + high)
        has_more = middle - 0.25 + 0.25 * exp(-4.0 * middle) > ended
        low, high = (low, middle) if has_more else (middle, high)
    return high


def _age(time: float) -> float:
    """Return the mean tokens decoded by who runs at a time, both over the mean answer.

    Who began with the run, `t S(t)`, and who came `a` ago, the integral of `a S(a) u(t - a)`, with
    `S(a) = (1 + 2 a) exp(-2 a)` still running and `u(t) = 1 - exp(-4 t)` coming.
    """
    began = time * (1.0 + 2.0 * time) * exp(-2.0 * time)
    came = 0.75 - exp(-2.0 * time) * (time * time + 1.5 * time + 0.75)
    early = exp(-2.0 * time) * (time * time - 0.5 * time + 0.25) - 0.25 * exp(-4.0 * time)
    return began + came - early
