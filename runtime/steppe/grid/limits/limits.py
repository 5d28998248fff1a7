"""The limits of the grid: they come over links, are kept on disk, and never fall to unlimited."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from steppe.config.section import LARGEST
from steppe.errors import DiskFullError, UsageError
from steppe.grid.events.check import DAY_S, EventTerms, check_event
from steppe.grid.events.event import GridEvent
from steppe.grid.limits.held import (
    OLDER_S,
    EventTarget,
    Held,
    HeldEvent,
    HeldLimit,
    InForce,
    Watched,
    all_repeated,
    asked,
    forgotten,
    heard,
    in_force,
    lifted,
    taken_back,
    without_ended,
)
from steppe.grid.limits.kept import Kept, KeptFile
from steppe.grid.limits.limit import Limit, LimitTerms, Link, check_limit, check_watts
from steppe.grid.limits.steady_clock import Moment, SteadyClock

_log = logging.getLogger(__name__)

_WRITTEN_SHARE = 0.25
"""A sign of life is written to disk after this share of `lost_s` since the last one: a restart
takes the link for lost at most so much too early."""


_ISSUE_AHEAD_S = 31 * DAY_S
"""How far ahead of the present the issue of a lift or a cancellation may be, s."""


class Limits:
    """What the grid allows, from all links; the lowest applies.

    The default of a link holds from the start without a kept file, while the link is lost, and
    then until it has repeated its limits. The default of a limit holds whenever its schedule says
    nothing. Every change is on disk before the call returns. If it cannot be written, it holds in
    this process all the same, the kept file is set aside, so that a restart begins with the
    defaults beside what it holds, and the error is raised.

    Methods may be called from any thread; `in_force` does not wait.
    """

    def __init__(
        self,
        path: Path,
        links: Sequence[Link],
        *,
        clock: SteadyClock | None = None,
        limit_terms: LimitTerms | None = None,
        event_terms: EventTerms | None = None,
    ) -> None:
        """Go on from the kept file, if there is one that can be read.

        Args:
            path: The kept file. One process may use it.
            links: Where limits come from.
            clock: Counts time.
            limit_terms: What a limit may ask.
            event_terms: What an event may ask.

        Raises:
            UsageError: Two links have one name.
        """
        self._links = {link.name: link for link in links}
        if len(self._links) < len(links):
            names = ", ".join(sorted(link.name for link in links))
            raise UsageError(f"links: asked for different names, found {names}")
        self._clock = clock or SteadyClock()
        self._limit_terms = limit_terms or LimitTerms()
        self._event_terms = event_terms or EventTerms()
        self._file = KeptFile(path)
        self._lock = threading.Lock()
        self._written_s: dict[str, float] = {}
        self._held = self._resumed()
        self._since_s = self._clock.now().steady_s
        self._stamp_anew()

    def in_force(self, ahead_s: float = 0.0) -> InForce | None:
        """Return the limit in force at a time; None if nothing limits the site.

        Args:
            ahead_s: How far ahead that time is, s. What is known now counts.
        """
        return in_force(self._held, self._links.values(), self._watched(), ahead_s)

    def events(self, ahead_s: float = 0.0) -> tuple[EventTarget, ...]:
        """Return what each event that is held asks at a time; cancelled ones are left out.

        Args:
            ahead_s: As in `in_force`, s.
        """
        return asked(self._held, self._links.values(), self._watched(), ahead_s)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits that are held, also those of lost links; lifted ones have no schedule."""
        return tuple(each.limit for each in self._held.limits if each.limit.source in self._links)

    def now(self) -> Moment:
        """Return the present moment."""
        return self._clock.now()

    @property
    def links(self) -> tuple[str, ...]:
        """Names of all links."""
        return tuple(self._links)

    @property
    def lost(self) -> tuple[str, ...]:
        """Names of the links that are lost, or were not heard yet; some can never be lost."""
        found = (name for name, link in self._links.items() if link.lost_s < LARGEST)
        return tuple(name for name in found if self.is_lost(name))

    def is_lost(self, link: str) -> bool:
        """Whether a link is lost, or was not heard yet."""
        lost_s = self._link(link).lost_s
        return self._held.contact(link).is_lost(lost_s, self._clock.now().steady_s)

    def put(self, limit: Limit) -> None:
        """Accept a limit, which replaces that of the same link and name.

        Raises:
            UsageError: It is refused, or it cannot be written.
            DiskFullError: It holds, but it could not be written.
        """
        link = self._link(limit.source)
        with self._lock:
            watched = self._watched()
            own = [each for each in self._held.limits if each.limit.source == limit.source]
            # A repetition keeps its own time: a clock that was set does not change it.
            new = next((each for each in own if each.limit == limit), None)
            if new is None:
                now = watched.now
                check_limit(limit, now.wall_s, [each.limit for each in own], self._limit_terms)
                new = HeldLimit(limit, now.wall_s - now.steady_s)
            held = heard(self._held, link, watched)
            contact = replace(held.contact(link.name), awaits=False, forgotten=False)
            new = replace(new, repeated=True, dropped=False)
            self._keep(held.with_contact(contact).with_limit(new))

    def put_event(self, event: GridEvent, baseline_w: float) -> None:
        """Accept an event, which replaces an older version of itself.

        Args:
            event: The event.
            baseline_w: What the site draws without it, W. That of its first version stays.

        Raises:
            UsageError: It is refused, or it cannot be written.
            DiskFullError: It holds, but it could not be written.
        """
        link = self._link(event.source)
        check_watts(f"event {event.id}: baseline_w", baseline_w)
        with self._lock:
            watched = self._watched()
            held = heard(self._held, link, watched)
            new = next((each for each in held.events if each.event == event), None)
            if new is not None and new.repeated:
                self._note(held, link, watched)
                return
            if new is None:
                new = self._checked(event, baseline_w, watched.now)
            self._keep(held.with_event(replace(new, repeated=True)))

    def lift(self, link: str, name: str, issued_s: float) -> None:
        """Lift a limit: its schedule ends, its default stays.

        Raises:
            UsageError: There is no such limit, or it is newer; or the change cannot be written.
            DiskFullError: It holds, but it could not be written.
        """
        with self._lock:
            watched = self._watched()
            held = heard(self._held, self._link(link), watched)
            found = [e for e in held.limits if (e.limit.source, e.limit.name) == (link, name)]
            if not found:
                raise UsageError(f"limit {name}: asked to lift it, found none of link {link}")
            _check_issue(f"limit {name}", issued_s, found[0].limit.issued_s, watched.now.wall_s)
            self._keep(held.with_limit(lifted(found[0], issued_s)))

    def cancel(self, link: str, event_id: str, issued_s: float) -> None:
        """Cancel an event: it ramps up from where it is.

        A cancellation with the issue of the event itself is one without a message of its own, such
        as of an event that a server does not list any more: it counts again if it is listed again.

        Raises:
            UsageError: There is no such event, or it is newer; or the change cannot be written.
            DiskFullError: It holds, but it could not be written.
        """
        with self._lock:
            watched = self._watched()
            held = heard(self._held, self._link(link), watched)
            found = [e for e in held.events if (e.event.source, e.event.id) == (link, event_id)]
            if not found:
                raise UsageError(f"event {event_id}: asked to cancel it, found none of link {link}")
            _check_issue(f"event {event_id}", issued_s, found[0].event.issued_s, watched.now.wall_s)
            kept_s = issued_s if issued_s > found[0].event.issued_s else issued_s - OLDER_S
            self._keep(held.with_event(taken_back(found[0], kept_s, watched.now.steady_s)))

    def heard(self, link: str) -> None:
        """Take note of a sign of life of a link.

        Raises:
            DiskFullError, UsageError: It could not be written.
        """
        known = self._link(link)
        with self._lock:
            watched = self._watched()
            self._note(heard(self._held, known, watched), known, watched)

    def repeated(self, link: str) -> None:
        """Take note that a link has sent all that it asks, such as after a poll of everything.

        What it has not repeated since it was lost is lifted or cancelled, and its default does not
        hold any more.

        Raises:
            DiskFullError, UsageError: It could not be written.
        """
        known = self._link(link)
        with self._lock:
            watched = self._watched()
            held = heard(self._held, known, watched)
            self._keep(all_repeated(held, link, watched.now.steady_s))

    def _note(self, held: Held, link: Link, watched: Watched) -> None:
        """Let a sign of life count; write it where the last one that was written is old."""
        steady_s, written_s = watched.now.steady_s, self._written_s.get(link.name)
        was_lost = self._held.contact(link.name).is_lost(link.lost_s, steady_s)
        recent = written_s is not None and steady_s - written_s < _WRITTEN_SHARE * link.lost_s
        if recent and not was_lost:
            self._held = held
            return
        self._keep(held)

    def _checked(self, event: GridEvent, baseline_w: float, now: Moment) -> HeldEvent:
        """Return an event that is to be held, with the baseline of its first version."""
        held = without_ended(self._held, now.steady_s).events
        before = check_event(event, now.wall_s, [each.event for each in held], self._event_terms)
        kept_w = next((each.baseline_w for each in held if each.event is before), baseline_w)
        return HeldEvent(event, kept_w, now.wall_s - now.steady_s, event.ends_s)

    def _watched(self) -> Watched:
        return Watched(self._clock.now(), self._since_s)

    def _link(self, name: str) -> Link:
        if name not in self._links:
            known = ", ".join(sorted(self._links)) or "none"
            raise UsageError(f"link {name[:40]!r}: asked for a link of this site, found {known}")
        return self._links[name]

    def _resumed(self) -> Held:
        """Return what was kept.

        If that cannot be read, or is not there where a version before it is, the defaults of the
        links hold beside what that version holds.
        """
        try:
            kept = self._file.read()
            lost = ""
        except UsageError as error:
            kept, lost = None, str(error)
        if kept is not None:
            return self._went_on(kept)
        before = self._file.read_before()
        if before is None and not lost:
            return Held()
        found = lost or f"{self._file.path}: asked for the limits that were kept, found no file"
        _log.warning("%s: the defaults of the links hold until they repeat their limits", found)
        return forgotten(Held() if before is None else self._went_on(before), self._links)

    def _went_on(self, kept: Kept) -> Held:
        """Return what was kept, with the clock going on from there."""
        held = kept.held
        if not self._clock.resume(kept.stamp):
            _log.warning("the clock was set back while this process was down: links count as lost")
            contacts = (replace(each, heard_s=None) for each in held.contacts)
            held = replace(held, contacts=tuple(contacts))
        return held

    def _stamp_anew(self) -> None:
        """Write what was kept with the present time.

        After a reboot, the time until the next restart is then counted by the machine and not by
        a wall clock that may be set back meanwhile.
        """
        if self._held == Held():
            return
        try:
            self._keep(self._held)
        except (DiskFullError, UsageError) as error:
            _log.warning("%s: limits hold, and a restart begins with the defaults beside", error)

    def _keep(self, held: Held) -> None:
        """Let it hold, and write it."""
        self._held = held = without_ended(held, self._clock.now().steady_s)
        try:
            self._file.write(Kept(self._clock.stamp(), held))
        except (DiskFullError, UsageError):
            self._written_s.clear()
            self._file.set_aside()
            raise
        heard_s = {each.link: each.heard_s for each in held.contacts}
        self._written_s = {link: at_s for link, at_s in heard_s.items() if at_s is not None}


def _check_issue(what: str, issued_s: float, before_s: float, now_s: float) -> None:
    if not issued_s >= before_s:
        wanted = f"{what}: asked for a version newer than that of {before_s:.3f} s"
        raise UsageError(f"{wanted}, found one of {issued_s:.3f} s")
    if issued_s - now_s > _ISSUE_AHEAD_S:  # nothing newer could follow it
        wanted = f"{what}: asked for an issue within {_ISSUE_AHEAD_S:.0f} s"
        raise UsageError(f"{wanted}, found one that is {issued_s - now_s:.0f} s ahead")
