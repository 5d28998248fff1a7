"""A whole number shared among names by their weights: the shares sum exactly."""

from __future__ import annotations

from collections.abc import Mapping

from steppe.errors import UsageError
from steppe.ledger.split import split


def shared(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Return the share of each key; the sum is the total.

    Of equal remainders the first by name goes first. A share is never above its weight while the
    total is not above the sum of the weights.

    Args:
        total: What is shared, at least 0.
        weights: The weight of each key, at least 0.

    Raises:
        UsageError: Something is below 0, or there is no weight to share by.
    """
    whole = sum(weights.values())
    if total < 0 or any(weight < 0 for weight in weights.values()):
        raise UsageError(f"shares: asked for amounts of at least 0, found less, to share {total}")
    if total == 0:
        return dict.fromkeys(weights, 0)
    if whole == 0:
        raise UsageError(f"shares: asked to share {total}, found no weight above 0")
    names = sorted(weights)
    parts = dict(zip(names, split(total, [weights[name] for name in names]), strict=True))
    return {key: parts[key] for key in weights}
