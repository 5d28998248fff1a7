"""What fails between sites and at them, in virtual time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from steppe.sites.view import Expected, SiteView


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when a fault lasts.

    Attributes:
        from_s: Begin, s since the run began.
        to_s: End, s.
    """

    from_s: float
    to_s: float

    def holds(self, now_s: float) -> bool:
        """Whether it lasts at a time."""
        return self.from_s <= now_s < self.to_s


@dataclass(frozen=True, slots=True)
class SiteDown:
    """A site is gone: its gateway, its engines and its beats."""

    site: str
    span: Span


@dataclass(frozen=True, slots=True)
class WanCut:
    """Nothing passes between two sites."""

    one: str
    other: str
    span: Span

    @property
    def pair(self) -> tuple[str, str]:
        """The two sites."""
        return self.one, self.other


@dataclass(frozen=True, slots=True)
class OneWay:
    """Nothing passes from a site to another one; the way back works, but no connection does."""

    origin: str
    target: str
    span: Span

    @property
    def pair(self) -> tuple[str, str]:
        """The two sites."""
        return self.origin, self.target


@dataclass(frozen=True, slots=True)
class FlappingBeats:
    """The beats of a site are lost for a while, then come for as long, and so on.

    Attributes:
        site: The site.
        span: From when to when.
        half_s: How long they are lost, and how long they come, s.
    """

    site: str
    span: Span
    half_s: float


@dataclass(frozen=True, slots=True)
class StaleBeats:
    """A site shows in its beats what it was when this began."""

    site: str
    span: Span


@dataclass(frozen=True, slots=True)
class FalseSurplus:
    """A site shows a surplus, now and in its forecast, and free tokens that it does not have.

    Attributes:
        site: The site.
        span: From when to when.
        surplus_w: The surplus that it adds, W.
    """

    site: str
    span: Span
    surplus_w: float


Fault = SiteDown | WanCut | OneWay | FlappingBeats | StaleBeats | FalseSurplus


class Faults:
    """All faults of a run."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        """Keep them."""
        self._faults = tuple(faults)

    def downs(self) -> tuple[SiteDown, ...]:
        """Return the sites that go down."""
        return tuple(each for each in self._faults if isinstance(each, SiteDown))

    def cuts(self) -> tuple[WanCut | OneWay, ...]:
        """Return what breaks connections between two sites."""
        return tuple(each for each in self._faults if isinstance(each, WanCut | OneWay))

    def is_down(self, site: str, now_s: float) -> bool:
        """Whether a site is gone."""
        return any(
            isinstance(each, SiteDown) and each.site == site and each.span.holds(now_s)
            for each in self._faults
        )

    def passes(self, origin: str, target: str, now_s: float) -> bool:
        """Whether a packet from a site reaches another one."""
        for each in self._faults:
            if not each.span.holds(now_s):
                continue
            match each:
                case SiteDown(site=site) if site in (origin, target):
                    return False
                case WanCut(one=one, other=other) if {one, other} == {origin, target}:
                    return False
                case OneWay() if (each.origin, each.target) == (origin, target):
                    return False
        return True

    def connects(self, one: str, other: str, now_s: float) -> bool:
        """Whether a connection between two sites works: both ways have to."""
        return self.passes(one, other, now_s) and self.passes(other, one, now_s)

    def beat_passes(self, origin: str, target: str, now_s: float) -> bool:
        """Whether a beat from a site reaches another one."""
        return self.passes(origin, target, now_s) and not any(
            isinstance(each, FlappingBeats)
            and each.site == origin
            and each.span.holds(now_s)
            and int((now_s - each.span.from_s) / each.half_s) % 2 == 0
            for each in self._faults
        )

    def freezes(self, site: str, now_s: float) -> bool:
        """Whether a site goes on showing what it has shown before."""
        return any(
            isinstance(each, StaleBeats) and each.site == site and each.span.holds(now_s)
            for each in self._faults
        )

    def shown(self, view: SiteView, now_s: float) -> SiteView:
        """Return what a site shows in the place of the truth."""
        for each in self._faults:
            if not isinstance(each, FalseSurplus) or each.site != view.site:
                continue
            if not each.span.holds(now_s):
                continue
            more_w = each.surplus_w
            pools = {
                name: replace(pool, free_tps=pool.capacity_tps, waiting=0)
                for name, pool in view.pools.items()
            }
            view = replace(
                view,
                budget_w=view.budget_w + more_w,
                headroom_w=view.headroom_w + more_w,
                surplus_w=view.surplus_w + more_w,
                forecast=tuple(
                    Expected(each.start_s, *(watts + more_w for watts in each[1:]))
                    for each in view.forecast
                ),
                pools=pools,
            )
        return view
