"""How far the outputs of a benchmark run have come, on average over the run.

In a service without end, a running sequence has decoded more than half of its output, because
long outputs are met more often. A benchmark begins with a full batch and ends when no request
waits: the fewer requests it sends for each place in the batch, the shorter the mean context, and
the fewer outputs end. Output lengths are assumed to follow an Erlang distribution of two stages
(standard deviation 0.71 of the mean), whose renewal function has a closed form (Cox, Renewal
Theory, 1962, section 4.5).
"""

from __future__ import annotations

from math import exp

from steppe.roofline.saturation import RunProgress

PARTS = 200


def progress_of_run(waves: float) -> RunProgress:
    """Return the progress of a run that begins with a full batch and ends with an empty queue.

    Args:
        waves: Its requests over those that decode at once; above 1.
    """
    end = _end_time(waves - 1.0)
    ages = [_mean_age((part + 0.5) / PARTS * end) for part in range(PARTS)]
    return RunProgress(sum(ages) / PARTS, (waves - 1.0) / end)


def _end_time(completions: float) -> float:
    """Return when each place in the batch has had this many completions, in mean outputs."""
    low, high = 0.0, completions + 0.25
    for _ in range(60):
        middle = 0.5 * (low + high)
        has_more = middle - 0.25 + 0.25 * exp(-4.0 * middle) > completions
        low, high = (low, middle) if has_more else (middle, high)
    return high


def _mean_age(time: float) -> float:
    """Return the mean tokens decoded by running sequences; both are over the mean output.

    Sequences that began with the run, `t S(t)`, and those that began `a` ago, the integral of
    `a S(a) u(t - a)`, with `S(a) = (1 + 2 a) exp(-2 a)` still running and `u(t) = 1 - exp(-4 t)`
    the renewal density.
    """
    began = time * (1.0 + 2.0 * time) * exp(-2.0 * time)
    came = 0.75 - exp(-2.0 * time) * (time * time + 1.5 * time + 0.75)
    early = exp(-2.0 * time) * (time * time - 0.5 * time + 0.25) - 0.25 * exp(-4.0 * time)
    return began + came - early
