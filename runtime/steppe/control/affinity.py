"""Prefix affinity: a request goes to the replica that holds the longest part of its prompt.

Unless that one is overloaded: it may have at most `load_bound` times its fair share of the
requests, as in "Consistent Hashing with Bounded Loads" (Mirrokni, Thorup, Zadimoghaddam, SODA
2018). Then the replica with the next longest part is asked, and at last the least loaded one takes
the request. If that would lose much of the prompt, the request first waits a moment for a replica
that holds it and is busy ("Delay scheduling", Zaharia et al., EuroSys 2010).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from steppe.control.placing import ReplicaSlots
from steppe.control.prefix_index import HeldPrefix, PrefixIndex, numbers_of

LEAST_SAVED_TOKENS = 2048
"""Prompt tokens that a wait for a busy replica must save: a 70B model on four H100 takes about
0.2 s for them."""


@dataclass(slots=True)
class Decisions:
    """How requests were placed, running totals.

    Attributes:
        nearest: Sent to a replica that holds the longest part of the prompt.
        nearer: Sent to one that holds a shorter part, because the nearest were overloaded.
        overloaded: Sent to the least loaded, because all that hold a part were overloaded.
        unknown: Sent to the least loaded, because none holds a part.
    """

    nearest: int = 0
    nearer: int = 0
    overloaded: int = 0
    unknown: int = 0


class Numbering:
    """The number in the index of each replica of some slots.

    Two slots may have one number, those of a replica at an old and a new address: the first counts.
    """

    __slots__ = ("_indices", "_mask", "numbers")

    def __init__(self, numbers: Iterable[int]) -> None:
        """Take the number of each slot, in their order."""
        self.numbers = tuple(numbers)
        self._indices = {n: i for i, n in reversed(list(enumerate(self.numbers)))}
        self._mask = sum([1 << number for number in self._indices])

    def slots(self, replicas: int) -> list[int]:
        """Return the slots of these replicas, which are bits: `1 << number`."""
        indices = self._indices
        return [indices[number] for number in numbers_of(replicas & self._mask)]


class PrefixAffinity:
    """Chooses replicas by what they hold.

    Attributes:
        index: What the replicas hold; its numbers are those of `places`.
        decisions: How requests were placed.
    """

    __slots__ = ("_least_saved", "_load_bound", "decisions", "index")

    def __init__(self, index: PrefixIndex, load_bound: float, least_saved: int = 1) -> None:
        """Begin without requests.

        Args:
            index: What the replicas hold.
            load_bound: Most load of a replica that is chosen for its cache, times its fair share.
            least_saved: Blocks that a wait for a busy replica must save.
        """
        self.index, self._load_bound, self._least_saved = index, load_bound, least_saved
        self.decisions = Decisions()

    def acquire(
        self,
        slots: ReplicaSlots,
        hashes: Sequence[int],
        places: int = 1,
        numbering: Numbering | None = None,
        *,
        later: bool = False,
    ) -> int | None:
        """Take a slot and return its replica; None if every replica is full.

        Args:
            slots: The slots of the replicas.
            hashes: Chained hashes of the blocks of the prompt; empty if unknown.
            places: Sequences of the request.
            numbering: The number of each replica of `slots` in the index; the same ones if None.
            later: Whether the request is deferrable.
        """
        if not hashes:
            return slots.acquire(places, later=later)
        levels = self.index.levels(hashes)
        near = None
        if levels:
            is_usable = slots.usable(self._load_bound, places, later=later)
            near = _nearest(slots, levels, numbering, is_usable)
        replica = slots.acquire(places, later=later) if near is None else near.replica
        if replica is None:
            return None
        if near is not None:
            slots.take(replica, places, later=later)
        self._count(levels, near)
        self.index.credit(levels)
        number = replica if numbering is None else numbering.numbers[replica]
        self.index.record(number, hashes)
        return replica

    def should_wait(
        self,
        slots: ReplicaSlots,
        hashes: Sequence[int],
        places: int = 1,
        numbering: Numbering | None = None,
    ) -> bool:
        """Return whether an awake replica holds much more of a prompt than those with room.

        The arguments are those of `acquire`.
        """
        levels = self.index.levels(hashes)
        if not levels or levels[0].blocks < self._least_saved:
            return False
        longest, limits = levels[0], slots.limits
        if not any(limits[i] for i in _slots(longest, numbering)):
            return False
        is_usable = slots.usable(self._load_bound, places)
        now = next(
            (level.blocks for level in levels if any(map(is_usable, _slots(level, numbering)))), 0
        )
        return longest.blocks - now >= self._least_saved

    def _count(self, levels: list[HeldPrefix], near: _Near | None) -> None:
        decisions = self.decisions
        if near is not None:
            decisions.nearest += near.is_nearest
            decisions.nearer += not near.is_nearest
        elif levels:
            decisions.overloaded += 1
        else:
            decisions.unknown += 1


@dataclass(frozen=True, slots=True)
class _Near:
    """A replica that holds a part of a prompt.

    Attributes:
        replica: Its index among the slots.
        is_nearest: Whether none holds a longer part.
    """

    replica: int
    is_nearest: bool


def _nearest(
    slots: ReplicaSlots,
    levels: Sequence[HeldPrefix],
    numbering: Numbering | None,
    is_usable: Callable[[int], bool],
) -> _Near | None:
    """Return the usable replica with the longest part; None if none of them has any."""
    for level in levels:
        fits = [i for i in _slots(level, numbering) if is_usable(i)]
        if fits:
            return _Near(slots.least_of(fits), level is levels[0])
    return None


def _slots(level: HeldPrefix, numbering: Numbering | None) -> Sequence[int]:
    """Return the slots of the replicas that hold a part of a prompt."""
    return numbers_of(level.replicas) if numbering is None else numbering.slots(level.replicas)
