"""The baseline from like days: what the site drew at the same hours of days without an event.

10-in-10 is that of CAISO (with an adjustment of at most 20 %), high 4-of-5 that of PJM, middle
8-of-10 that of ERCOT. All arithmetic is in integers, so that the same inputs give the same watts
everywhere. The inputs end when the event can be foreseen: load that is raised after the notice
(baseline inflation, arXiv 2011.10681) changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date

from steppe.errors import UsageError
from steppe.grid.verify.load import Load
from steppe.grid.verify.times import DAY_S, HOUR_S, Calendar, EventTimes, Span
from steppe.ledger.receipt import canonical
from steppe.ledger.tariff import divided

PPM = 1_000_000
PLACEBO_DAYS = 30
"""How many days more are kept, so that the method can be tried on days without an event."""


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A factor by what the site drew on the day of the event, before it.

    Attributes:
        from_s: Begin of the hours that are compared, s before the start.
        to_s: Their end, s before the start; earlier if the event can be foreseen earlier.
        lowest_ppm: Lower bound of the factor, 10^-6.
        highest_ppm: Upper bound of it, 10^-6.
    """

    from_s: int = 4 * HOUR_S
    to_s: int = HOUR_S
    lowest_ppm: int = 800_000
    highest_ppm: int = 1_200_000


@dataclass(frozen=True, slots=True)
class LikeDays:
    """Which days make a baseline.

    Attributes:
        name: What the field calls it.
        days: How many of the most recent like days are looked at.
        drop_low: How many of them with the least draw at the hours of the event are left out.
        drop_high: How many of those with the most.
        adjustment: The factor of the day; None for none.
        lookback_days: How many days back a like day may be.
    """

    name: str
    days: int
    drop_low: int = 0
    drop_high: int = 0
    adjustment: Adjustment | None = None
    lookback_days: int = 45

    def __post_init__(self) -> None:
        if min(self.drop_low, self.drop_high) < 0 or self.days <= self.drop_low + self.drop_high:
            found = f"found {self.days} less {self.drop_low} and {self.drop_high}"
            raise UsageError(f"baseline {self.name}: asked for a day that is left, {found}")


TEN_IN_TEN = LikeDays("10-in-10", 10, adjustment=Adjustment())
HIGH_4_OF_5 = LikeDays("high 4-of-5", 5, drop_low=1)
MIDDLE_8_OF_10 = LikeDays("middle 8-of-10", 10, drop_low=1, drop_high=1)
FIVE_IN_TEN = LikeDays("5-in-10", 10, drop_low=5)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The days of a baseline, and its factor.

    Attributes:
        days_back: How many days before the event each one is; the most recent first.
        days: Their local dates.
        factor_ppm: The factor, 10^-6.
    """

    days_back: tuple[int, ...]
    days: tuple[date, ...]
    factor_ppm: int


@dataclass(frozen=True, slots=True)
class LikeDayBaseline:
    """All that a baseline from like days is made of.

    Attributes:
        method: Which days.
        times: When the event is.
        calendar: Which days are alike.
        events: The events before this one; their days are not used.
        load: What the site drew, up to when the event could be foreseen.
    """

    method: LikeDays
    times: EventTimes
    calendar: Calendar
    events: tuple[Span, ...]
    load: Load

    @property
    def name(self) -> str:
        """What the field calls the method."""
        return self.method.name

    @property
    def entry(self) -> bytes:
        """All inputs, as JSON with sorted keys."""
        adjustment = self.method.adjustment
        method = asdict(self.method) | {"adjustment": asdict(adjustment) if adjustment else "none"}
        values = {
            "method": method,
            "times": asdict(self.times),
            "calendar": self.calendar.plain,
            "events": [asdict(span) for span in self.events],
            "load": self.load.plain,
        }
        return canonical({"kind": "baseline", "v": 1, **values})

    def watts(self, start_s: int, end_s: int) -> tuple[int, ...]:
        """Return the baseline in each interval of a span within the report of the event, W.

        Raises:
            UsageError: There are too few like days, or the span is longer than the report.
        """
        used = self._used
        if start_s < used.start_s or end_s > used.end_s:
            asked = f"asked for a span within {used.start_s} to {used.end_s}"
            raise UsageError(f"baseline {self.name}: {asked}, found {start_s} to {end_s}")
        chosen = self.chosen
        on_days = [self._on(days, start_s, end_s) for days in chosen.days_back]
        scale = len(on_days) * PPM
        by_interval = zip(*on_days, strict=True)
        return tuple(divided(sum(each) * chosen.factor_ppm, scale) for each in by_interval)

    @property
    def chosen(self) -> Chosen:
        """The days and the factor.

        Raises:
            UsageError: There are too few like days.
        """
        asked = self.method.days
        found = [days for _, days in zip(range(asked), self._like_days(), strict=False)]
        if len(found) < asked:
            back = f"in the {self.method.lookback_days} days before the event"
            raise UsageError(
                f"baseline {self.name}: asked for {asked} like days {back}, found {len(found)}"
            )
        start_s, end_s = self.times.start_s, self.times.end_s
        ranked = sorted(found, key=lambda days: (sum(self._on(days, start_s, end_s)), -days))
        kept = sorted(ranked[self.method.drop_low : asked - self.method.drop_high])
        dates = tuple(self.calendar.day_of(start_s - days * DAY_S) for days in kept)
        return Chosen(tuple(kept), dates, self._factor_ppm(kept))

    def _like_days(self) -> Iterator[int]:
        """Yield how many days before the event each day that may be used is."""
        times, calendar = self.times, self.calendar
        used = self._used
        is_working = calendar.is_working(calendar.day_of(times.start_s))
        barred = frozenset[date]().union(*(calendar.days_of(span) for span in self.events))
        for days in range(1, self.method.lookback_days + 1):
            by_s = days * DAY_S
            like = calendar.is_working(calendar.day_of(times.start_s - by_s)) == is_working
            there = Span(used.start_s - by_s, used.end_s - by_s)
            if like and not calendar.days_of(there) & barred and self._is_whole(there):
                yield days

    @property
    def _used(self) -> Span:
        """The span of which every like day has to have readings."""
        start_s = self.times.start_s - self.times.before_s
        if window := self._window:
            start_s = min(start_s, window.start_s)
        return Span(start_s, self.times.end_s + self.times.after_s)

    @property
    def _window(self) -> Span | None:
        """The hours of the day that make the factor; they end before it could be foreseen."""
        if (adjustment := self.method.adjustment) is None:
            return None
        end_s = min(self.times.start_s - adjustment.to_s, self.times.foreseeable_s)
        end_s -= end_s % self.load.interval_s
        return Span(end_s - (adjustment.from_s - adjustment.to_s), end_s)

    def _factor_ppm(self, kept: Sequence[int]) -> int:
        window, adjustment = self._window, self.method.adjustment
        if window is None or adjustment is None:
            return PPM
        size = self.load.interval_s
        drawn_w, usual_w = 0, 0
        usual = [self._on(days, window.start_s, window.end_s) for days in kept]
        drawn = self.load.between(window.start_s, window.end_s)
        for number, (now_w, then_w) in enumerate(zip(drawn, zip(*usual, strict=True), strict=True)):
            begin_s = window.start_s + number * size
            in_event = any(span.meets(begin_s, begin_s + size) for span in self.events)
            if now_w is not None and not in_event:
                drawn_w += now_w * len(kept)
                usual_w += sum(then_w)
        if usual_w <= 0:
            return PPM
        factor_ppm = divided(drawn_w * PPM, usual_w)
        return max(adjustment.lowest_ppm, min(adjustment.highest_ppm, factor_ppm))

    def _is_whole(self, span: Span) -> bool:
        return None not in self.load.between(span.start_s, span.end_s)

    def _on(self, days: int, start_s: int, end_s: int) -> list[int]:
        """Return what was drawn at the same hours some days before, W."""
        by_s = days * DAY_S
        drawn = self.load.between(start_s - by_s, end_s - by_s)
        return [watts for watts in drawn if watts is not None]


def freeze(
    method: LikeDays,
    times: EventTimes,
    load: Load,
    calendar: Calendar,
    events: Sequence[Span] = (),
) -> LikeDayBaseline:
    """Return a baseline with its inputs as they were when the event could first be foreseen.

    Args:
        method: Which days.
        times: When the event is.
        load: What the site drew; what is later or older than needed is left out.
        calendar: Which days are alike.
        events: Other events; those that began later than this one could be foreseen are left out.

    Raises:
        UsageError: A day is no whole number of intervals, or the event does not fit them.
    """
    size = load.interval_s
    around = (times.start_s - times.before_s, times.end_s + times.after_s)
    if DAY_S % size or any(time_s % size for time_s in (times.start_s, times.end_s, *around)):
        asked = f"asked for a day and an event of whole intervals of {size} s"
        raise UsageError(f"baseline {method.name}: {asked}, found {times}")
    back_s = (method.lookback_days + PLACEBO_DAYS + 1) * DAY_S
    known = load.part(times.start_s - back_s, times.foreseeable_s)
    earlier = sorted(
        (span for span in events if span.start_s < times.foreseeable_s),
        key=lambda span: (span.start_s, span.end_s),
    )
    return LikeDayBaseline(method, times, calendar, tuple(earlier), known)


def placebo_pairs(baseline: LikeDayBaseline) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return baseline and draw at the hours of the event, on days without an event, W.

    Each of the last `PLACEBO_DAYS` days that is like the day of the event gets a baseline as if
    the event had been on it, from what was known by the same time of day. A day with too few
    like days before it is left out.
    """
    pairs = []
    reach = replace(baseline.method, lookback_days=PLACEBO_DAYS)
    for days in replace(baseline, method=reach)._like_days():
        times = baseline.times.days_earlier(days)
        again = freeze(baseline.method, times, baseline.load, baseline.calendar, baseline.events)
        try:
            watts = again.watts(times.start_s, times.end_s)
        except UsageError:
            continue
        drawn = baseline.load.between(times.start_s, times.end_s)
        pairs.append((watts, tuple(each for each in drawn if each is not None)))
    return pairs
