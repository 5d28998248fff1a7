"""Whether the site can comply with the events that have not begun."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from steppe.grid.events.comply import CannotComply, Complies, can_comply
from steppe.grid.limits.held import EventTarget
from steppe.grid.offers.of_fleet import flexibility_of
from steppe.grid.offers.sources import Source

_log = logging.getLogger(__name__)

Verdict = Complies | CannotComply


class Verdicts:
    """The verdict on each event; that of an event which has begun stays as it was."""

    def __init__(self) -> None:
        """Begin without events."""
        self._of: dict[tuple[str, str], Verdict] = {}

    def judge(
        self, events: Sequence[EventTarget], sources: Sequence[Source] | None, draw_w: float
    ) -> None:
        """Judge the events anew; log a verdict that has changed.

        Args:
            events: The events that are held.
            sources: Where flexibility comes from; None if that is not known yet.
            draw_w: Draw of the site now, W.
        """
        before, self._of = self._of, {}
        for each in events:
            key = each.event.source, each.event.id
            known = before.get(key)
            if known is not None:
                self._of[key] = known
            if sources is None or each.at_s >= each.event.starts_s:
                continue
            flexibility = flexibility_of(sources, each.baseline_w - draw_w)
            new = can_comply(each.event, each.baseline_w, flexibility, each.at_s)
            self._of[key] = new
            if type(new) is not type(known):
                _report(each, new)

    def of(self, asked: EventTarget) -> Verdict:
        """Return the verdict on an event; one that was never judged can be complied with."""
        return self._of.get((asked.event.source, asked.event.id), Complies(0.0))


def _report(asked: EventTarget, verdict: Verdict) -> None:
    name = f"{asked.event.source}/{asked.event.id}"
    match verdict:
        case Complies(needs_s=needs_s):
            starts_in_s = asked.event.starts_s - asked.at_s
            line = "%s: the site can comply; it starts in %.0f s and needs %.0f s"
            _log.info(line, name, starts_in_s, needs_s)
        case CannotComply(reason=reason, short_w=short_w):
            _log.warning("%s: the site cannot comply, %.0f W short: %s", name, short_w, reason)
