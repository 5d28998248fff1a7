"""Whatever happens in whatever order: the limit in force is the lowest of what holds, or lower."""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.grid.limits.world import World, watts_of

from steppe.errors import DiskFullError, UsageError
from steppe.grid.events.event import GridEvent, Share, Watts, cancelled, limit_w
from steppe.grid.limits.limit import Limit, Link, Step
from steppe.grid.limits.limits import Limits

LINKS = (Link("a", default_w=500.0, lost_s=60.0), Link("b", default_w=2000.0, lost_s=200.0))
NAMES = st.sampled_from(("x", "y"))
LINK = st.sampled_from(LINKS)
WATTS = st.integers(0, 3000).map(float)
SPAN = st.integers(0, 120).map(float)
BASELINE_W = 1000.0


def full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@dataclass(frozen=True)
class Sent:
    """A limit or an event that was sent.

    Attributes:
        what: It, or what was left of it.
        late_s: By how much the wall clock was off when it was sent, s.
        lost: Whether its link was lost since.
        cancelled: Whether it was cancelled.
    """

    what: Limit | GridEvent
    late_s: float
    lost: bool = False
    cancelled: bool = False


class AnyOrder(RuleBasedStateMachine):
    """A site with two links, and beside it a model that forgets nothing and reads a true clock."""

    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.folder = Path(self.place.name)
        self.world = World()
        self.sent: dict[tuple[str, str, str], Sent] = {}
        self.heard_s: dict[str, float | None] = {link.name: None for link in LINKS}
        self.awaits = {link.name: True for link in LINKS}
        self.issued = 0
        self.has_default = False
        self.is_moved = self.is_unwritten = False
        self.start()

    def teardown(self) -> None:
        self.place.cleanup()

    def start(self) -> None:
        if self.is_unwritten:
            self.forget()
            self.has_default &= (self.folder / "kept.before").exists()
        self.limits = Limits(self.folder / "kept", LINKS, clock=self.world.clock())

    def forget(self) -> None:
        """Note in the model that a restart finds nothing of what was sent."""
        self.sent.clear()
        self.heard_s = {link.name: None for link in LINKS}
        self.awaits = {link.name: True for link in LINKS}
        self.is_unwritten = False

    def issue(self) -> float:
        """Return the time of a new message; a later one is newer, whatever the wall clock says."""
        self.issued += 1
        return 1_790_000_000.0 + self.issued

    def is_lost(self, link: Link) -> bool:
        heard_s = self.heard_s[link.name]
        return heard_s is None or self.world.true_s - heard_s > link.lost_s

    def contact(self, link: Link) -> None:
        """Note in the model that a link is heard."""
        if self.is_lost(link):
            self.awaits[link.name] = True
            for key, sent in self.sent.items():
                if key[0] == link.name:
                    self.sent[key] = replace(sent, lost=True)
        self.heard_s[link.name] = self.world.true_s
        self.is_unwritten = False  # whatever was heard is on disk, and all else with it

    @rule(link=LINK, name=NAMES, levels_w=st.tuples(WATTS, WATTS), after_s=SPAN, ends=st.booleans())
    def a_limit_comes(
        self, link: Link, name: str, levels_w: tuple[float, float], after_s: float, ends: bool
    ) -> None:
        watts, default_w = levels_w
        now_s = self.world.wall_s
        steps = (Step(now_s, watts), Step(now_s + after_s + 1, watts / 2))
        ends_s = now_s + 2 * after_s + 10 if ends else None
        limit = Limit(name, link.name, self.issue(), steps, ends_s, default_w)
        self.limits.put(limit)
        self.contact(link)
        self.awaits[link.name] = False
        self.sent[link.name, "limit", name] = Sent(limit, self.world.wrong_s)
        self.has_default, self.is_moved = True, False

    @rule(
        link=LINK,
        name=NAMES,
        goal=st.one_of(WATTS.map(Watts), st.integers(0, 4).map(lambda n: Share(n / 4))),
        in_s=st.integers(-50, 100).map(float),
        spans_s=st.tuples(SPAN, SPAN, SPAN),
    )
    def an_event_comes(
        self,
        link: Link,
        name: str,
        goal: Watts | Share,
        in_s: float,
        spans_s: tuple[float, float, float],
    ) -> None:
        down_s, hold_s, up_s = spans_s
        starts_s = self.world.wall_s + in_s
        event = GridEvent(
            id=name,
            program=name,
            priority=0,
            issued_s=self.issue(),
            starts_s=starts_s,
            ramp_down_s=down_s,
            hold_until_s=starts_s + down_s + hold_s + 51,
            ramp_up_s=up_s,
            target=goal,
            kind="limit",
            source=link.name,
        )
        self.limits.put_event(event, BASELINE_W)
        self.contact(link)
        self.sent[link.name, "event", name] = Sent(event, self.world.wrong_s)
        self.is_moved = False

    @rule(link=LINK, name=NAMES)
    def an_event_is_cancelled(self, link: Link, name: str) -> None:
        sent = self.sent.get((link.name, "event", name))
        try:
            self.limits.cancel(link.name, name, self.issue())
        except UsageError:
            return
        self.contact(link)
        if sent is not None and isinstance(sent.what, GridEvent):
            left = cancelled(sent.what, self.time_s(sent), BASELINE_W)
            del self.sent[link.name, "event", name]
            if left is not None:
                self.sent[link.name, "event", name] = replace(sent, what=left, cancelled=True)
        self.is_moved = False

    @rule(link=LINK, name=NAMES)
    def a_limit_is_lifted(self, link: Link, name: str) -> None:
        sent = self.sent.get((link.name, "limit", name))
        try:
            self.limits.lift(link.name, name, self.issue())
        except UsageError:
            assert sent is None
            return
        self.contact(link)
        if sent is None:  # of the version before one that was damaged
            return
        assert isinstance(sent.what, Limit)
        lifted = replace(sent.what, watts=(), expires_s=None)
        self.sent[link.name, "limit", name] = replace(sent, what=lifted)
        self.is_moved = False

    @rule(link=LINK, name=NAMES, default_w=st.sampled_from((-1.0, float("nan"), 1e13)))
    def an_absurd_limit_comes(self, link: Link, name: str, default_w: float) -> None:
        with pytest.raises(UsageError):
            self.limits.put(Limit(name, link.name, self.issue(), (), None, default_w))

    @rule(link=LINK)
    def a_link_is_heard(self, link: Link) -> None:
        self.limits.heard(link.name)
        self.contact(link)

    @rule(link=LINK)
    def a_link_repeats_everything(self, link: Link) -> None:
        for key, sent in list(self.sent.items()):
            if key[0] != link.name:
                continue
            if isinstance(sent.what, Limit):
                is_lifted = not sent.what.watts
                again = replace(sent.what, issued_s=self.issue()) if is_lifted else sent.what
                self.limits.put(again)
                self.awaits[link.name] = False
            elif not sent.cancelled:
                try:
                    self.limits.put_event(sent.what, BASELINE_W)
                except UsageError:  # it has ended
                    continue
            self.contact(link)
            self.sent[key] = replace(self.sent[key], lost=False)
        self.limits.repeated(link.name)
        self.contact(link)
        self.awaits[link.name] = False
        self.is_moved = False

    @rule(elapsed_s=st.integers(0, 250))
    def time_passes(self, elapsed_s: int) -> None:
        self.world.true_s += elapsed_s

    @rule(by_s=st.sampled_from((-100_000, -300, -20, 20, 300, 100_000)))
    def the_wall_clock_is_set(self, by_s: int) -> None:
        self.world.wrong_s += by_s
        self.is_moved = True

    @rule(down_s=st.integers(0, 250))
    def the_process_restarts(self, down_s: int) -> None:
        self.world.true_s += down_s
        self.start()

    @precondition(lambda self: not self.is_moved)
    @rule(down_s=st.integers(0, 250))
    def the_machine_reboots(self, down_s: int) -> None:
        self.world.true_s += down_s
        self.world.booted_s = self.world.true_s
        self.start()

    @rule(is_lost=st.booleans())
    def the_kept_file_is_damaged_or_lost(self, is_lost: bool) -> None:
        kept = self.folder / "kept"
        if kept.exists():
            if is_lost:
                kept.unlink()
            else:
                kept.write_bytes(kept.read_bytes()[:-1])
            self.forget()
            self.start()

    @rule(link=LINK, name=NAMES, watts=WATTS)
    def a_limit_comes_while_the_disk_is_full(self, link: Link, name: str, watts: float) -> None:
        steps = (Step(self.world.wall_s, watts),)
        limit = Limit(name, link.name, self.issue(), steps, None, 100.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", full_disk)
            with pytest.raises(DiskFullError):
                self.limits.put(limit)
        self.contact(link)
        self.awaits[link.name] = False
        self.sent[link.name, "limit", name] = Sent(limit, self.world.wrong_s)
        self.has_default, self.is_moved, self.is_unwritten = True, False, True

    def time_s(self, sent: Sent) -> float:
        """Return the time by a clock that was right, or wrong in the same way, all the while."""
        return self.world.wall_s - self.world.wrong_s + sent.late_s

    def holding_w(self, ahead_s: float) -> list[float]:
        """Return all that holds, W."""
        found = []
        for link in LINKS:
            lost = self.is_lost(link)
            if lost or self.awaits[link.name]:
                found.append(link.default_w)
            for sent in (sent for key, sent in self.sent.items() if key[0] == link.name):
                at_s = self.time_s(sent) + ahead_s
                if isinstance(sent.what, GridEvent):
                    watts = limit_w(sent.what, at_s, BASELINE_W)
                    found += [] if watts is None else [watts]
                    continue
                watts, unsure = sent.what.at(at_s), lost or sent.lost
                if watts is None or unsure:
                    found.append(sent.what.default_w)
                if watts is not None and (sent.what.expires_s is not None or not unsure):
                    found.append(watts)
        return found

    @invariant()
    def the_limit_in_force_is_at_most_the_lowest_of_what_holds(self) -> None:
        for ahead_s in (0.0, 30.0, 300.0):
            watts = watts_of(self.limits, ahead_s)
            lowest_w = min(self.holding_w(ahead_s), default=float("inf"))
            assert (float("inf") if watts is None else watts) <= lowest_w

    @invariant()
    def after_a_first_limit_with_a_default_the_site_is_never_unlimited(self) -> None:
        assert not self.has_default or self.limits.in_force() is not None


AnyOrder.TestCase.settings = settings(
    deadline=None,
    derandomize=True,
    max_examples=12,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)
TestAnyOrder = AnyOrder.TestCase
