"""A whole number split by weights with the largest remainder method: the parts sum exactly."""

from __future__ import annotations

from collections.abc import Sequence


def split(amount: int, weights: Sequence[int]) -> list[int]:
    """Return the parts of an amount by weights: whole numbers of which the sum is the amount.

    Each part is rounded down, and what is left goes by ones to the largest remainders, the earlier
    of equal ones first. All parts are 0 if all weights are.

    Args:
        amount: What is split, at least 0.
        weights: How much of it each has, at least 0.
    """
    total = sum(weights)
    if total == 0:
        return [0] * len(weights)
    divided = [divmod(amount * weight, total) for weight in weights]
    parts = [whole for whole, _ in divided]
    by_remainder = sorted(range(len(parts)), key=lambda place: -divided[place][1])
    for place in by_remainder[: amount - sum(parts)]:
        parts[place] += 1
    return parts
