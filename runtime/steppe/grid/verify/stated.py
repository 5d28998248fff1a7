"""Baselines that no past day makes: stated before, a firm level, or a group that was left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Protocol

from steppe.errors import UsageError
from steppe.grid.verify.load import Load
from steppe.grid.verify.times import EventTimes
from steppe.ledger.receipt import canonical
from steppe.ledger.tariff import divided


class Baseline(Protocol):
    """What the site would have drawn, from inputs that were fixed before the event."""

    @property
    def name(self) -> str:
        """What the field calls the method."""

    @property
    def entry(self) -> bytes:
        """All inputs that were fixed, as JSON with sorted keys."""

    def watts(self, start_s: int, end_s: int) -> tuple[int, ...]:
        """Return the baseline in each interval of a span, W."""


def sha256_of(baseline: Baseline) -> str:
    """Return the hash of the inputs of a baseline, in hexadecimal."""
    return sha256(baseline.entry).hexdigest()


@dataclass(frozen=True, slots=True)
class DeclaredBaseline:
    """What the site said before that it would draw, such as a D-prognosis of UFTP.

    Attributes:
        load: What it said.
        declared_s: When it said so, s since the Unix epoch.
        times: When the event is.
    """

    load: Load
    declared_s: int
    times: EventTimes

    def __post_init__(self) -> None:
        late_s = self.declared_s - self.times.foreseeable_s
        if late_s >= 0:
            asked = "asked for one from before the event could be foreseen"
            raise UsageError(f"declared baseline: {asked}, found {late_s} s after")

    @property
    def name(self) -> str:
        """What the field calls the method."""
        return "declared"

    @property
    def entry(self) -> bytes:
        """What was declared, when, and for which event."""
        values = {
            "method": self.name,
            "declared_s": self.declared_s,
            "times": asdict(self.times),
            "load": self.load.plain,
        }
        return canonical({"kind": "baseline", "v": 1, **values})

    def watts(self, start_s: int, end_s: int) -> tuple[int, ...]:
        """Return what was declared for each interval of a span, W.

        Raises:
            UsageError: Nothing was declared for one.
        """
        return _whole(self.load.between(start_s, end_s), "declared baseline", "a declaration")


@dataclass(frozen=True, slots=True)
class FirmLevel:
    """A level that the draw does not exceed in an event: there is no baseline to be wrong.

    The difference from the subscribed level is what is owed in each interval.

    Attributes:
        subscribed_w: The level that the site pays for without an event, W.
        firm_w: The level in an event, W; below the other.
        interval_s: Length of an interval, s.
    """

    subscribed_w: int
    firm_w: int
    interval_s: int

    def __post_init__(self) -> None:
        if self.firm_w >= self.subscribed_w:
            asked = f"asked for less than the subscribed {self.subscribed_w} W"
            raise UsageError(f"firm level: {asked}, found {self.firm_w} W")

    @property
    def name(self) -> str:
        """What the field calls the method."""
        return "firm level"

    @property
    def entry(self) -> bytes:
        """The two levels."""
        return canonical({"kind": "baseline", "v": 1, "method": self.name, **asdict(self)})

    @property
    def committed_w(self) -> int:
        """What is owed in each interval, W."""
        return self.subscribed_w - self.firm_w

    def watts(self, start_s: int, end_s: int) -> tuple[int, ...]:
        """Return the subscribed level for each interval of a span, W."""
        return (self.subscribed_w,) * ((end_s - start_s) // self.interval_s)


@dataclass(frozen=True, slots=True)
class ControlGroup:
    """Equal replicas of which some are left alone: what they draw shows what all would.

    Which replica is in which group is fixed before the event, by chance; the draw of the group
    that is left alone is measured in it.

    Attributes:
        dispatched: Ids of the replicas that answer the event.
        alone: Ids of those that do not.
        others_w: What else the site draws, the same with and without an event, W.
    """

    dispatched: tuple[str, ...]
    alone: tuple[str, ...]
    others_w: int = 0

    def __post_init__(self) -> None:
        both = sorted({*self.dispatched} & {*self.alone})
        if both or not self.alone or not self.dispatched:
            found = f"found {len(self.dispatched)} and {len(self.alone)}, {len(both)} in both"
            raise UsageError(f"control group: asked for replicas in each of two groups, {found}")

    @property
    def entry(self) -> bytes:
        """The two groups."""
        groups = {"dispatched": list(self.dispatched), "alone": list(self.alone)}
        values = {"method": "control group", "others_w": self.others_w, **groups}
        return canonical({"kind": "baseline", "v": 1, **values})

    def measured(self, alone: Load) -> MeasuredControlGroup:
        """Return the baseline by what the group that is left alone drew."""
        return MeasuredControlGroup(self, alone)


@dataclass(frozen=True, slots=True)
class MeasuredControlGroup:
    """A control group, and what those of it drew that were left alone.

    Attributes:
        groups: The groups.
        load: Draw of the replicas that were left alone, all together.
    """

    groups: ControlGroup
    load: Load

    @property
    def name(self) -> str:
        """What the field calls the method."""
        return "control group"

    @property
    def entry(self) -> bytes:
        """What was fixed before the event: the groups."""
        return self.groups.entry

    def watts(self, start_s: int, end_s: int) -> tuple[int, ...]:
        """Return what the site would have drawn in each interval of a span, W.

        Raises:
            UsageError: The draw of the group has a gap.
        """
        drawn = _whole(self.load.between(start_s, end_s), "control group", "a reading")
        replicas, alone = len(self.groups.alone) + len(self.groups.dispatched), self.groups.alone
        return tuple(self.groups.others_w + divided(w * replicas, len(alone)) for w in drawn)


def _whole(watts: Sequence[int | None], where: str, what: str) -> tuple[int, ...]:
    whole = tuple(each for each in watts if each is not None)
    if len(whole) < len(watts):
        found = f"found {len(whole)} of {len(watts)}"
        raise UsageError(f"{where}: asked for {what} in each interval, {found}")
    return whole
