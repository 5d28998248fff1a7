"""The baseline of a site without enough days: what it drew just before the event was known.

NAESB calls it Meter Before / Meter After. It takes the place of a baseline from like days until
there are enough of them, and its name and the reason are in the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from steppe.grid.verify.load import Load
from steppe.grid.verify.times import EventTimes, Span
from steppe.ledger.receipt import canonical
from steppe.ledger.tariff import divided

METER_BEFORE = "meter before"
PLACEBO_TIMES = 30
"""How many earlier times the method is tried at."""


@dataclass(frozen=True, slots=True)
class MeterBefore:
    """The mean draw before the event could be foreseen, the same for each interval.

    Attributes:
        in_place_of: The method that was asked for, and why it cannot be used; empty if this one
            was asked for.
        times: When the event is.
        window_s: Length of the time before that counts, s; whole intervals.
        events: The events before this one; their intervals do not count.
        load: What the site drew, up to when the event could be foreseen.
        stated_w: The baseline that was stated when the event was accepted, W; for a site without
            any reading in the window.
    """

    in_place_of: str
    times: EventTimes
    window_s: int
    events: tuple[Span, ...]
    load: Load
    stated_w: int

    @property
    def name(self) -> str:
        """What the field calls the method."""
        return METER_BEFORE

    @property
    def entry(self) -> bytes:
        """All inputs, as JSON with sorted keys."""
        values = {
            "method": self.name,
            "in_place_of": self.in_place_of,
            "times": asdict(self.times),
            "window_s": self.window_s,
            "events": [asdict(span) for span in self.events],
            "load": self.load.plain,
            "stated_w": self.stated_w,
        }
        return canonical({"kind": "baseline", "v": 1, **values})

    def watts(self, start_s: int, end_s: int) -> tuple[int, ...]:
        """Return the mean draw of the window for each interval of a span, W."""
        before_w = self._before_w(self.times.foreseeable_s)
        watts = self.stated_w if before_w is None else before_w
        return (watts,) * ((end_s - start_s) // self.load.interval_s)

    def placebo_pairs(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Return baseline and draw at earlier times without an event, W.

        They follow on one another without overlap, the most recent first.
        """
        length_s = self.times.end_s - self.times.foreseeable_s + self.window_s
        size = self.load.interval_s
        step_s = -(-length_s // size) * size
        pairs = []
        for number in range(1, PLACEBO_TIMES + 1):
            times = self.times.earlier(number * step_s)
            before_w = self._before_w(times.foreseeable_s)
            drawn = list(self._drawn(times.start_s, times.end_s))
            if before_w is not None and len(drawn) == (times.end_s - times.start_s) // size:
                pairs.append(((before_w,) * len(drawn), tuple(drawn)))
        return pairs

    def _before_w(self, foreseeable_s: int) -> int | None:
        end_s = foreseeable_s - foreseeable_s % self.load.interval_s
        drawn = list(self._drawn(end_s - self.window_s, end_s))
        return divided(sum(drawn), len(drawn)) if drawn else None

    def _drawn(self, start_s: int, end_s: int) -> Iterator[int]:
        """Yield the readings of a span outside of other events, W."""
        size = self.load.interval_s
        for number, watts in enumerate(self.load.between(start_s, end_s)):
            begin_s = start_s + number * size
            in_event = any(span.meets(begin_s, begin_s + size) for span in self.events)
            if watts is not None and not in_event:
                yield watts


def meter_before(
    times: EventTimes,
    load: Load,
    window_s: float,
    stated_w: float,
    *,
    events: Sequence[Span] = (),
    in_place_of: str = "",
) -> MeterBefore:
    """Return the baseline with its inputs as they were when the event could first be foreseen.

    Args:
        times: When the event is.
        load: What the site drew; what is later or older than needed is left out.
        window_s: Length of the time before that counts, s; at least one interval.
        stated_w: The baseline that was stated when the event was accepted, W.
        events: Other events; those that began later than this one could be foreseen are left out.
        in_place_of: The method that was asked for, and why it cannot be used.
    """
    size = load.interval_s
    window_s = max(size, round(window_s / size) * size)
    length_s = times.end_s - times.foreseeable_s + window_s
    back_s = (PLACEBO_TIMES + 1) * (length_s + size) + window_s
    known = load.part(times.foreseeable_s - back_s, times.foreseeable_s)
    earlier = sorted(
        (span for span in events if span.start_s < times.foreseeable_s),
        key=lambda span: (span.start_s, span.end_s),
    )
    return MeterBefore(in_place_of, times, window_s, tuple(earlier), known, round(stated_w))
