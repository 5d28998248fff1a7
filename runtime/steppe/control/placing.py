"""How requests are placed on replicas, in the gateway and in the simulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from math import ceil, inf
from typing import NamedTuple

from steppe.control.least import LeastOf
from steppe.control.prompt_pace import PromptPace

QUEUE_PER_REPLICA = 2
"""Requests outstanding at a replica above its batch limit, so that a batch never runs dry."""
PROMPT_WEIGHT = 16.0
"""Weight of a request that waits for its first token, relative to one that decodes.

Its prompt is computed within seconds, so it loads its replica far more. Without the weight, all new
requests go to a replica that has just woken, and queue there for their prompts. A prompt of 1155
tokens (mean of the Azure conversation trace) takes as much of a modelled H100 as its sequence does
in some 13 decode steps of Llama-3.1-8B, which is about a second."""


PROMPT_WAIT_SHARE = 0.25
"""Part of the TTFT SLO that prompts may wait inside an engine; as much may pass at the gateway
before a request is late (`admission.LATE_SHARE`)."""


class Occupancy(NamedTuple):
    """The requests of one replica.

    Attributes:
        outstanding: All of them.
        prefilling: Those before their first token.
        pace: How fast it computes prompts.
        later: Those of class `deferrable`.
        later_prefilling: Those of class `deferrable` before their first token.
    """

    outstanding: int
    prefilling: int
    pace: PromptPace
    later: int = 0
    later_prefilling: int = 0


class ReplicaSlots:
    """The slots for requests at each replica, by the replica's index.

    The next request goes to the replica with the least load: requests outstanding, those before
    their first token weighted, over its speed, so that its share of the requests follows the speed
    that the plan gives it. The limit stands for the speed while that of a replica is unknown. Ties
    rotate. A replica whose prompts would wait longer than `prompt_wait_s` gets none. A request of
    several sequences, as with `n`, takes as many places; one of more than the limit takes all
    places of a replica without requests.

    Requests of class `deferrable` fill the places that others leave. For the others they do not
    count: an engine holds them back for one that is more urgent, so it need not wait here.

    Attributes:
        outstanding: Requests that each replica has, each counted with its places.
        later: Those of them of class `deferrable`.
        limits: Most places that may be taken of each; 0 where no request may go.
        next: Index of the replica that gets the next request of a tie.
    """

    __slots__ = (
        "_firm_loads",
        "_later_prefilling",
        "_loads",
        "_most",
        "_paces",
        "_prefilling",
        "_prompt_wait_s",
        "_speeds",
        "later",
        "limits",
        "next",
        "outstanding",
    )

    def __init__(self, limits: Sequence[int], first: int = 0, prompt_wait_s: float = inf) -> None:
        """Begin without requests.

        Args:
            limits: Most requests that each replica may have.
            first: Index of the replica that gets the first request of a tie.
            prompt_wait_s: Longest time that prompts may wait at a replica, s.
        """
        self._prompt_wait_s = prompt_wait_s
        self._paces = [PromptPace() for _ in limits]
        self.limits, self._most = list(limits), list(limits)
        self.outstanding = [0] * len(limits)
        self._speeds: list[float] = list(limits)
        self._prefilling = [0] * len(limits)
        self.later, self._later_prefilling = [0] * len(limits), [0] * len(limits)
        loads = [0.0 if limit > 0 else inf for limit in limits]
        self._loads, self._firm_loads = LeastOf(loads), LeastOf(loads)
        self.next = first % len(limits) if limits else 0

    @property
    def has_room(self) -> bool:
        """Whether a request of one place would get a slot that is not deferrable."""
        return self._firm_loads.least < inf

    @property
    def free_places(self) -> int:
        """Requests of one place that would get a slot now."""
        each = zip(self._loads.values, self.limits, self.outstanding, strict=True)
        return sum([limit - taken for load, limit, taken in each if load < inf])

    def limit(self, replica: int, limit: int) -> None:
        """Set the limit of a replica, which stands for its speed until `set_speeds`."""
        self.limits[replica] = self._most[replica] = limit
        self._speeds[replica] = limit
        self._weigh(replica)

    def narrow(self, replica: int, limit: int) -> None:
        """Let requests take no more of the places of a replica than this: others take the rest.

        A request of several sequences takes as many places as before, or waits for them.
        """
        self.limits[replica] = min(limit, self._most[replica])
        self._weigh(replica)

    def set_speeds(self, speeds: Sequence[float]) -> None:
        """Set how fast the replicas are, output tokens/s of their operating points.

        Args:
            speeds: The speed of each; if one with a limit has none (0), the limits count.
        """
        known = all(speed > 0 for speed, most in zip(speeds, self._most, strict=True) if most)
        self._speeds = list(speeds) if known else list(self._most)
        for replica in range(len(self.limits)):
            self._weigh(replica)

    def usable(
        self, load_bound: float, places: int = 1, *, later: bool = False
    ) -> Callable[[int], bool]:
        """Return a test of whether a replica has room for a request of `places` more.

        It also fails for one that is overloaded with it. A replica's fair share is its part, by
        speed, of the requests of all that have room. It is overloaded with more than `load_bound`
        times that share, rounded up. The test holds until the slots change.
        """
        loads = self._loads_for(places, later=later)
        taken, speeds = self.outstanding, self._speeds
        roomy = [load < inf for load in loads]
        speed = sum(compress(speeds, roomy))
        if not speed:
            return lambda _: False
        per_speed = load_bound * (sum(compress(taken, roomy)) + places) / speed
        return lambda i: roomy[i] and taken[i] + places <= ceil(per_speed * speeds[i])

    def within(self, load_bound: float, places: int = 1, *, later: bool = False) -> list[int]:
        """Return the replicas that are usable, see `usable`."""
        is_usable = self.usable(load_bound, places, later=later)
        return [i for i in range(len(self.limits)) if is_usable(i)]

    def least_of(self, replicas: Sequence[int]) -> int:
        """Return the least loaded of some replicas; ties rotate."""
        count, first, loads = len(self.limits), self.next, self._firm_loads.values
        return min(replicas, key=lambda i: (loads[i], (i - first) % count))

    def acquire(self, places: int = 1, *, later: bool = False) -> int | None:
        """Take a slot and return its replica; None if every replica is full.

        The request counts as one before its first token until `begin`.

        Args:
            places: Sequences of the request.
            later: Whether it is deferrable.
        """
        if places == 1:
            loads = self._loads if later else self._firm_loads
        else:
            loads = LeastOf(self._loads_for(places, later=later))
        if loads.least == inf:
            return None
        replica = loads.first_least(self.next)
        self.take(replica, places, later=later)
        return replica

    def take(self, replica: int, places: int = 1, *, later: bool = False) -> None:
        """Take a slot of a replica that has room."""
        self.next = replica + 1
        taken = min(places, self._most[replica])
        self.outstanding[replica] += taken
        self._prefilling[replica] += taken
        if later:
            self.later[replica] += taken
            self._later_prefilling[replica] += taken
        self._weigh(replica)

    def _loads_for(self, places: int, *, later: bool) -> list[float]:
        """Return the loads, without the replicas that have too few places left."""
        loads = self._loads.values if later else self._firm_loads.values
        if places == 1:
            return loads
        counts = self.outstanding
        if not later:
            counts = [n - of_later for n, of_later in zip(counts, self.later, strict=True)]
        states = zip(loads, counts, self.limits, self._most, strict=True)
        return [
            inf if taken + min(places, most) > limit else load
            for load, taken, limit, most in states
        ]

    def expect_first_token(self, replica: int, now_s: float, places: int = 1) -> None:
        """Note that the first token of a new request will be seen, because it streams.

        Without a stream `begin` comes with the end of a request, which says nothing about prompts.
        """
        self._paces[replica].take(now_s, places)
        self._weigh(replica)

    def occupy(self, replica: int, occupancy: Occupancy) -> None:
        """Give a replica, which has none, the requests that it had in an earlier table."""
        self.outstanding[replica], self._prefilling[replica], self._paces[replica] = occupancy[:3]
        self.later[replica] = occupancy.later
        self._later_prefilling[replica] = occupancy.later_prefilling
        self._weigh(replica)

    def occupancy(self, replica: int) -> Occupancy:
        """Return the requests of a replica."""
        return Occupancy(
            self.outstanding[replica],
            self._prefilling[replica],
            self._paces[replica],
            self.later[replica],
            self._later_prefilling[replica],
        )

    def begin(
        self,
        replica: int,
        now_s: float,
        requests: int = 1,
        *,
        streams: bool = True,
        later: bool = False,
    ) -> None:
        """Note that requests have got their first token.

        Args:
            replica: Its index.
            now_s: The time, s.
            requests: How many.
            streams: Whether `expect_first_token` was called for them.
            later: Whether they are deferrable.
        """
        assert self._prefilling[replica] >= requests, "more first tokens than requests"
        self._prefilling[replica] -= requests
        self._later_prefilling[replica] -= requests if later else 0
        if streams:
            self._paces[replica].begin(now_s, requests)
        self._weigh(replica)

    def release(self, replica: int, places: int = 1, *, later: bool = False) -> None:
        """Return the slot of a request that `begin` has counted."""
        assert self.outstanding[replica] >= places, "less is outstanding"
        self.outstanding[replica] -= places
        self.later[replica] -= places if later else 0
        self._weigh(replica)

    def clear(self, replica: int) -> None:
        """Return all slots of a replica that is lost; nothing more goes there."""
        self.limits[replica] = self._most[replica] = 0
        self.outstanding[replica] = self._prefilling[replica] = 0
        self.later[replica] = self._later_prefilling[replica] = 0
        self._paces[replica] = PromptPace()
        self._weigh(replica)

    def _weigh(self, replica: int) -> None:
        taken, limit = self.outstanding[replica], self.limits[replica]
        prefilling = self._prefilling[replica] - self._later_prefilling[replica]
        pace, speed = self._paces[replica], self._speeds[replica]
        weighted = taken + PROMPT_WEIGHT * prefilling
        waits = pace.prompts >= pace.most(self._prompt_wait_s)
        self._loads.set(replica, inf if waits or taken >= limit else weighted / speed)
        firm = taken - self.later[replica]
        self._firm_loads.set(replica, inf if waits or firm >= limit else weighted / speed)
