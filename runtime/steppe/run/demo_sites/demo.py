"""The demo of several sites: the same day twice, first at the nearest site, then where power is."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from steppe.config import ConstantSupply
from steppe.disk import disk_errors
from steppe.errors import StartError
from steppe.load.arrivals import LengthLimits
from steppe.load.client import ServerTarget
from steppe.load.delay_proxy import DelayProxy
from steppe.load.home_sites import HomeLoad, arrivals_at_homes
from steppe.load.loop_thread import LoopThread
from steppe.load.results import LoadResult
from steppe.report.record_folder import FIGURE_FILE
from steppe.run.demo_sites.books import check_books
from steppe.run.demo_sites.follow import Follower
from steppe.run.demo_sites.outcome import BooksFound, ClientSums, client_sums, faults_of
from steppe.run.demo_sites.places import ANYWHERE, NEAREST, Place, Places, lay_out, write_files
from steppe.run.demo_sites.section import read_east_west
from steppe.run.demo_sites.served import Phase, PhaseSums, SiteRecord, sums_of
from steppe.run.demo_sites.servers import end_servers, running_servers
from steppe.run.demo_sites.shown import TITLES, document, draw_figure
from steppe.run.demo_sites.weather import Days
from steppe.run.signals import exiting_on_signals
from steppe.sites.settlement import periods

DEMO_FILE = "demo.json"
PHASES = (NEAREST, ANYWHERE)
_POLL_S = 0.5
_LEAD_S = 4.0
"""Time until a day begins, s: all sites have its weather by then."""
_LOOKS_S = 4.0
"""How long after its grace a period may take to be settled, s: both sides have to look."""
QUIET_SHARE = 0.06
"""Share of a day at its end in which nothing new is asked, so that queues can drain."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came of the demo.

    Attributes:
        sums: What the sites did, by phase.
        clients: What the clients saw, by phase.
        books: What was found in the books.
        faults: Why it did not show what it is to show, a line each.
        figure: Its figure.
    """

    sums: Mapping[str, PhaseSums]
    clients: Mapping[str, ClientSums]
    books: BooksFound
    faults: tuple[str, ...]
    figure: Path


@dataclass(frozen=True, slots=True)
class _Run:
    """What is left when the sites have ended."""

    phases: tuple[Phase, ...]
    results: Mapping[str, Mapping[str, LoadResult]]
    begun_epoch_s: Mapping[str, float]
    exit_codes: Mapping[str, int]


def run_demo_sites(source: Path, folder: Path, day_s: float, console: Console) -> DemoResult:
    """Serve two days of the same weather and the same arrivals at several sites, and compare them.

    Args:
        source: Folder of the sites' files, such as `configs/east_west`.
        folder: New folder of the run.
        day_s: Length of a day, s.
        console: Where it is shown.

    Raises:
        SteppeError: The files do not fit, or a site could not start or has ended.
    """
    section, configs = read_east_west(source)
    places = lay_out(source, section, configs, folder)
    write_files(places, time.time())
    run = _serve(places, day_s, console)
    return _conclude(places, folder, run)


def _serve(places: Places, day_s: float, console: Console) -> _Run:
    """Run the sites for all phases, and end them."""
    phases, results = [], {}
    with (
        exiting_on_signals(),
        LoopThread("demo-sites") as loop,
        running_servers(places.sites) as servers,
    ):
        for route in places.routes.values():
            loop.call(DelayProxy(route).start())
        follower = Follower(places, servers, loop, console, len(PHASES), day_s)
        follower.wait_for_start()
        urls = ", ".join(f"{name} {place.url}" for name, place in places.sites.items())
        line = f"serving: {urls}; each has a live page; a day in {day_s:.0f} s"
        console.print(line, soft_wrap=True, highlight=False)
        loads, days = loads_of(places, day_s), Days((), day_s)
        for number, name in enumerate(PHASES):
            days = with_next_day(days, time.time())
            follower.set_days(days)
            seed = places.section.load.seed + 1000 * (number + 1)  # no prompt is cached from before
            begin_s = days.begin_epoch_s[-1]
            phase, seen = follower.day(TITLES[name], name, begin_s, loads, seed)
            phases.append(phase)
            results[name] = seen
        _wait_for_settlement(places, follower)
        codes = end_servers(servers)
    if missing := set(places.sites) - set(follower.begun_epoch_s):
        raise StartError(f"asked for the time of all records, found none of {sorted(missing)}")
    return _Run(tuple(phases), results, follower.begun_epoch_s, codes)


def with_next_day(days: Days, now_s: float) -> Days:
    """Return the days so far and one more, which begins when all sites have its weather.

    Args:
        days: The days so far; the last one has ended, and so have its requests.
        now_s: Now, s since the Unix epoch.
    """
    return replace(days, begin_epoch_s=(*days.begin_epoch_s, now_s + _LEAD_S))


def loads_of(places: Places, day_s: float) -> list[HomeLoad]:
    """Return what is asked at each site in a day.

    Args:
        places: The sites.
        day_s: Length of the day, s.
    """
    asked = places.section.load
    config = next(iter(places.sites.values())).config
    whole = config.model.max_model_len or 2048
    arrivals = arrivals_at_homes(
        {name: each.customers for name, each in places.section.sites.items()},
        rate_rps=asked.rate_rps,
        duration_s=day_s * (1 - QUIET_SHARE),
        length_scale=asked.length_scale,
        limits=LengthLimits(whole // 2, whole // 4),
        seed=asked.seed,
    )
    return [
        HomeLoad(name, ServerTarget(place.url, config.model.client_name, _CLASS), arrivals[name])
        for name, place in places.sites.items()
    ]


_CLASS = (("x-steppe-priority", "interactive"),)


def _wait_for_settlement(places: Places, follower: Follower) -> None:
    """Let the sites settle the periods of all requests, while they still run."""
    end_s = settled_by(time.time(), places.section.settle_s)
    while time.time() < end_s:
        follower.statuses()
        time.sleep(_POLL_S)


def settled_by(ended_epoch_s: float, settle_s: int) -> float:
    """Return when the sites have settled all requests that have ended, s since the Unix epoch.

    Args:
        ended_epoch_s: When the last one ended, s since the Unix epoch.
        settle_s: Length of the periods, s.
    """
    grace_s = periods.grace_s(settle_s)
    last = math.ceil((ended_epoch_s + grace_s) / settle_s) * settle_s
    return last + grace_s + _LOOKS_S


def _conclude(places: Places, folder: Path, run: _Run) -> DemoResult:
    """Read the records, check the books, draw the figure, and write what was found."""
    records = [
        SiteRecord.read(name, place.record, run.begun_epoch_s[name], firm_w(place))
        for name, place in places.sites.items()
    ]
    sums = {phase.name: sums_of(records, phase) for phase in run.phases}
    clients = {name: client_sums(each) for name, each in run.results.items()}
    books = check_books(places)
    result = DemoResult(
        sums,
        clients,
        books,
        faults_of(sums, clients, books, run.exit_codes),
        folder / FIGURE_FILE,
    )
    draw_figure(records, run.phases, result.figure)
    _write(folder / DEMO_FILE, places, run, result)
    return result


def firm_w(place: Place) -> float:
    """Return the power from the grid that a site may use, W."""
    supply = place.config.power.supply
    return sum(each.watts for each in supply if isinstance(each, ConstantSupply))


def _write(path: Path, places: Places, run: _Run, result: DemoResult) -> None:
    seen = {name: each.document() for name, each in result.clients.items()}
    values = {
        "phases": [
            {
                "name": phase.name,
                "begun_epoch_s": phase.begun_epoch_s,
                "day_s": phase.day_s,
                "ended_epoch_s": phase.ended_epoch_s,
            }
            for phase in run.phases
        ],
        "sites": {
            name: {"begun_epoch_s": run.begun_epoch_s[name], "firm_w": firm_w(place)}
            for name, place in places.sites.items()
        },
        "results": document(result.sums, seen),
        "books": result.books.document,
        "faults": result.faults,
    }
    with disk_errors(path):
        path.write_text(json.dumps(values, indent=2) + "\n")
