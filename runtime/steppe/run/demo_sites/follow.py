"""The sites of the demo while they run: their start, and a day under one way to choose a site."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live

from steppe.errors import StartError
from steppe.load.home_sites import (
    HomeLoad,
    expositions,
    put_section,
    replay_at_homes,
    statuses,
)
from steppe.load.loop_thread import LoopThread
from steppe.load.replay import ReplayOptions
from steppe.load.results import LoadResult
from steppe.report.record_folder import REQUESTS_FILE
from steppe.run.demo_sites.places import Places
from steppe.run.demo_sites.served import Phase
from steppe.run.demo_sites.servers import Servers
from steppe.run.demo_sites.table import (
    Head,
    RequestTail,
    live_table,
    plain_line,
    row_of,
    start_view,
)
from steppe.run.demo_sites.weather import HOUR_S, Days, Weather, power_values

START_S = 600.0
"""Longest time until all sites serve, s."""
KNOWN_S = 60.0
"""Longest time after that until each may send to all others, s."""
USUAL_START_S = 80.0
DRAIN_S = 90.0
"""Longest time after a day for requests that are still open, s: what is asked in it ends before the
next one begins, also on a busy machine."""
USUAL_DRAIN_S, USUAL_END_S = 10.0, 25.0
_PERIOD_S = 1.0
_PLAIN_S = 10.0
"""Time between two lines where the output is no terminal, s."""

_USABLE = re.compile(r'^steppe_sites_usable\{site="([^"]+)"\} 1(?:\.0)?$', re.MULTILINE)

Status = Mapping[str, Any]


@dataclass(slots=True)
class Follower:
    """Watches the sites, and shows them.

    Attributes:
        places: The sites.
        servers: Their processes.
        loop: Where its connections are.
        console: Where it is shown.
        phases_left: Days that are to come, the present one included.
        day_s: Length of a day, s.
        begun_epoch_s: Second 0 of the record of each site, s since the Unix epoch.
    """

    places: Places
    servers: Servers
    loop: LoopThread
    console: Console
    phases_left: int
    day_s: float
    begun_epoch_s: dict[str, float] = field(default_factory=dict)
    _started_s: float = field(default_factory=time.monotonic)
    _printed_s: float = 0.0

    def wait_for_start(self) -> None:
        """Wait until all sites serve, and each has heard the others.

        Raises:
            StartError: One has ended, or it took too long.
        """
        with self._live() as live:
            self._wait(live, START_S, "sites that serve", self._silent)
            self._wait(live, KNOWN_S, "sites that may send to all others", self._alone)

    def _wait(
        self, live: Live | None, most_s: float, what: str, missing: Callable[[], list[str]]
    ) -> None:
        """Wait until no site is missing, and show how they start."""
        begun_s = time.monotonic()
        while names := missing():
            now_s = time.monotonic()
            if now_s - begun_s > most_s:
                found = f"found none such at {', '.join(names)}"
                raise StartError(f"asked for {what} within {most_s:.0f} s, {found}")
            elapsed_s = now_s - self._started_s
            lines = {name: server.last_line for name, server in self.servers.items()}
            if live is not None:
                left_s = max(5.0, USUAL_START_S - elapsed_s)
                live.update(start_view(elapsed_s, left_s, lines), refresh=True)
            time.sleep(_PERIOD_S / 2)

    def set_days(self, days: Days) -> None:
        """Give each site its weather of these days, and so its forecast.

        Raises:
            UsageError: A site does not take it.
        """
        for name, place in self.places.sites.items():
            for plant in place.plants:
                plant.write(days, self.begun_epoch_s[name])
            values = power_values(place.config.power, place.plants)
            self.loop.call(put_section(place.url, "power", values))

    def day(
        self, title: str, name: str, begin_epoch_s: float, loads: Sequence[HomeLoad], seed: int
    ) -> tuple[Phase, Mapping[str, LoadResult]]:
        """Let a day pass, and return it with what the clients saw.

        Args:
            title: What stands above the table.
            name: Name of the phase, and of the tenant of its requests.
            begin_epoch_s: When it begins, s since the Unix epoch.
            loads: What is asked at each site.
            seed: Seed of the words of the prompts.

        Raises:
            StartError: A site has ended.
        """
        tails = [
            RequestTail(site, place.record / REQUESTS_FILE)
            for site, place in self.places.sites.items()
        ]
        for tail in tails:
            tail.reset()
        weather = Weather(Days((begin_epoch_s,), self.day_s))
        time.sleep(max(0.0, begin_epoch_s - time.time()))
        options = ReplayOptions(seed=seed, deadline_s=self.day_s + DRAIN_S)
        replayed = self.loop.begin(
            replay_at_homes([load.of_tenant(name) for load in loads], options)
        )
        with self._live() as live:
            while not (replayed.done() and weather.is_over):
                self._show(title, weather, tails, live)
                self._pause(replayed)
        self.phases_left -= 1
        return Phase(name, begin_epoch_s, self.day_s, time.time()), replayed.result()

    @property
    def _urls(self) -> dict[str, str]:
        return {name: place.url for name, place in self.places.sites.items()}

    def statuses(self) -> dict[str, Status]:
        """Return the status of each site that answers; a site that has ended is an error.

        Raises:
            StartError: A site has ended.
        """
        for server in self.servers.values():
            server.check()
        found = self.loop.call(statuses(self._urls))
        for name, status in found.items():
            if "at" in status and "t_s" in status:
                self.begun_epoch_s[name] = float(str(status["at"])) - float(str(status["t_s"]))
        return dict(found)

    def _silent(self) -> list[str]:
        """Return the sites that do not serve yet."""
        found = self.statuses()
        return [
            name
            for name, server in self.servers.items()
            if not (server.has_begun and is_ready(found.get(name)))
        ]

    def _alone(self) -> list[str]:
        """Return the sites that may not send to all others yet."""
        known = self.expositions()
        return [
            name
            for name in self.servers
            if len(usable_sites(known.get(name, ""))) < len(self.servers) - 1
        ]

    def expositions(self) -> dict[str, str]:
        """Return the metrics of each site that answers."""
        return self.loop.call(expositions(self._urls))

    def _show(
        self, title: str, weather: Weather, tails: Sequence[RequestTail], live: Live | None
    ) -> None:
        found = self.statuses()
        for tail in tails:
            tail.update()
        rows = [row_of(tail.site, found.get(tail.site), tail.counts) for tail in tails]
        now_s = time.monotonic()
        hour = weather.of_day_s / HOUR_S
        days = self.phases_left - hour / 24
        left_s = days * self.day_s + self.phases_left * USUAL_DRAIN_S + USUAL_END_S
        head = Head(title, hour, now_s - self._started_s, left_s)
        if live is not None:
            live.update(live_table(head, rows), refresh=True)
        elif now_s - self._printed_s >= _PLAIN_S:
            self._printed_s = now_s
            self.console.print(plain_line(head, rows), soft_wrap=True, highlight=False)

    def _live(self) -> Any:
        if self.console.is_terminal:
            return Live(console=self.console, auto_refresh=False)
        return _NoLive()

    def _pause(self, replayed: Future[Any]) -> None:
        if replayed.done():
            replayed.result()  # an error ends the demo now, and not with the day
        time.sleep(_PERIOD_S)


class _NoLive:
    """Shows nothing."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def is_ready(status: Status | None) -> bool:
    """Return whether a site serves.

    Args:
        status: What its gateway says; None if it does not answer.
    """
    if status is None or "t_s" not in status or status["controller"]["stale"]:
        return False
    return all(model["awake"] for model in status["models"].values())


def usable_sites(exposition: str) -> frozenset[str]:
    """Return the other sites that a gateway may send requests to, of its metrics."""
    return frozenset(_USABLE.findall(exposition))
