"""What may be promised to the grid. A watt is never sold twice.

A commitment takes its watts from its start until its end and the recovery of the offer. Values
only: where they are kept, the check and the insert are one step (`steppe.grid.service.offers`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from steppe.errors import UsageError
from steppe.grid.offers.offer import FlexOffer
from steppe.ledger.commitment import Commitment

__all__ = ["Commitment", "Free", "broken", "committed", "free_w"]


@dataclass(frozen=True, slots=True)
class Free:
    """Watts that are not promised.

    Attributes:
        down_w: Downwards, W; below zero if more is promised than offered.
        up_w: Upwards, W.
    """

    down_w: int
    up_w: int


def free_w(offer: FlexOffer, promised: Iterable[Commitment], from_s: float, until_s: float) -> Free:
    """Return how many watts of an offer are free all the time from `from_s` until `until_s`."""
    taking = [one for one in promised if one.takes(from_s, until_s)]
    starts = [from_s, *(one.from_s for one in taking if one.from_s > from_s)]
    at_once = [[one for one in taking if one.takes_at(at_s)] for at_s in starts]
    return Free(
        down_w=offer.down.watts - max(sum(one.down_w for one in each) for each in at_once),
        up_w=offer.up.watts - max(sum(one.up_w for one in each) for each in at_once),
    )


def committed(
    promised: Sequence[Commitment], new: Commitment, offer: FlexOffer
) -> tuple[Commitment, ...]:
    """Return the commitments with a new one.

    Raises:
        UsageError: It is not within the offer, its watts are not free, or its id was used for
            another one.
    """
    for one in promised:
        if one.id == new.id:
            if new.is_same(one):
                return tuple(promised)
            raise UsageError(f"asked for commitment {new.id}, found another one of this id")
    _check_within(new, offer)
    free = free_w(offer, promised, new.from_s, new.until_s + new.recovery_s)
    for name, asked_w, free_w_ in (("down", new.down_w, free.down_w), ("up", new.up_w, free.up_w)):
        if asked_w > max(0, free_w_):
            raise UsageError(
                f"asked for {asked_w} W {name} for {new.programme}, found {max(0, free_w_)} W free "
                f"of offer {offer.id}"
            )
    return (*promised, new)


def broken(promised: Sequence[Commitment], offer: FlexOffer) -> tuple[Commitment, ...]:
    """Return the commitments that a new offer cannot keep, the latest to be sold first.

    Commitments are in the order in which they were sold; the earlier ones are kept.
    """
    kept: list[Commitment] = []
    lost: list[Commitment] = []
    for one in promised:
        if not one.takes(offer.from_s, offer.until_s):
            continue
        free = free_w(offer, kept, one.from_s, one.until_s + one.recovery_s)
        fits = one.down_w <= max(0, free.down_w) and one.up_w <= max(0, free.up_w)
        (kept if fits else lost).append(one)
    return tuple(reversed(lost))


def _check_within(new: Commitment, offer: FlexOffer) -> None:
    """Raise UsageError if a commitment is not within an offer."""
    if min(new.down_w, new.up_w) < 0 or new.down_w + new.up_w == 0:
        raise UsageError(
            f"asked for {new.down_w} W down and {new.up_w} W up, found nothing to sell"
        )
    if not offer.from_s <= new.from_s < new.until_s <= offer.until_s:
        raise UsageError(
            f"asked for {new.from_s} to {new.until_s} s, found an offer from {offer.from_s} to "
            f"{offer.until_s} s"
        )
    for power, watts in ((offer.down, new.down_w), (offer.up, new.up_w)):
        if watts and new.recovery_s < power.recovery_s:
            raise UsageError(
                f"asked for a recovery of {new.recovery_s} s, found that the offer needs "
                f"{power.recovery_s} s"
            )
