"""How does every policy do on random days of a year, with wakes that take their time?

Each policy goes through the same random days of wind and sun with the same requests. The fleet, the
wakes, the margin and the rivals are chosen so that they favour none: wakes and sleeps take the time
that was published for vLLM's sleep mode, scaled with the day; the margin is the default; rivals
know the same points; those with a setting are given the best one of each day, in hindsight. The
table has the median and the worst day. Everything is modelled by the energy roofline, whose clock
curve was measured on few GPUs: `--clock-curve low` and `high` are one standard error off.
Simulated; nothing here was measured on a GPU.

    python bench/scoreboard.py --fleet 70b
    python bench/scoreboard.py --clock-curve low --clock-curve nominal --clock-curve high
    python bench/scoreboard.py --speed 1 --duration 1800
    python bench/scoreboard.py --quick

By default a day takes 900 s of the run. With `--speed 1` a run is in real time, and shows a part of
each day, at a random hour.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import track

import document
import policies
import scoreboard_figure
import scoreboard_table
import weather_days
from bench_fleets import FLEETS, Size, make_bench
from scenarios import DAY_S
from scoreboard_runs import LOCKED, Row, Task, rows_of
from steppe.config import ControlSection

SHIPPED = ControlSection()
LEFT_OUT = ("reactive", LOCKED)
"""Policies that do not look at the budget, besides `full_clocks`: run only when asked for."""
POLICIES = tuple(name for name in policies.POLICIES if name not in LEFT_OUT)
QUICK_DAYS, QUICK_S = 2, 300.0


class SleepTimes(NamedTuple):
    """How long a replica takes to go to sleep and to wake, s.

    Attributes:
        sleep_s: To go to sleep.
        wake_s: To wake.
        source: Where the times come from.
    """

    sleep_s: float
    wake_s: float
    source: str


BLOG = "vLLM blog, Zero-Reload Model Switching with vLLM Sleep Mode, 2025, A100"
WAKES = {
    ("sleep", "70b"): SleepTimes(5.9, 5.4, f"level 1 of Qwen3-235B-FP8 on 4 GPUs; {BLOG}"),
    ("sleep", "8b"): SleepTimes(2.78, 2.87, f"level 1 of Qwen3-30B on 1 GPU; {BLOG}"),
    ("cold", "70b"): SleepTimes(5.9, 97.7, f"cold start of Qwen3-235B-FP8 on 4 GPUs; {BLOG}"),
    ("cold", "8b"): SleepTimes(2.78, 47.5, f"cold start of Qwen3-30B on 1 GPU; {BLOG}"),
}
"""Published times by depth of the sleep and fleet: those of larger models on as many GPUs. The draw
of a sleeping replica stays the same, although a process that is gone draws less."""


def tasks_of(arguments: argparse.Namespace) -> list[Task]:
    """Return the days of each clock curve, in random order."""
    rng = random.Random(arguments.seed)
    span_s = min(DAY_S, arguments.speed * arguments.duration_s)
    days = weather_days.random_days(arguments.weather, arguments.days, span_s, rng)
    names = tuple(dict.fromkeys(arguments.policy or POLICIES))
    tasks = [
        Task(size_of(arguments, curve, number, day.hour), day, arguments.speed, names)
        for curve in arguments.clock_curve
        for number, day in enumerate(days)
    ]
    rng.shuffle(tasks)
    return tasks


def size_of(arguments: argparse.Namespace, curve: str, number: int, hour: float) -> Size:
    """Return the bench of a day; every day has requests of its own."""
    times, speed = wake_of(arguments), arguments.speed
    return Size(
        fleet=arguments.fleet,
        replicas=arguments.replicas,
        duration_s=arguments.duration_s,
        utilisation=arguments.utilisation,
        margin_share=arguments.margin_share,
        over_share=arguments.over_share,
        seed=1000 * arguments.seed + number,
        assumed_share=arguments.assumed_share,
        assumed_speed=arguments.assumed_speed,
        clock_curve=curve,
        wake_s=times.wake_s / speed,
        sleep_s=times.sleep_s / speed,
        speed=speed,
        begin_hour=hour,
    )


def wake_of(arguments: argparse.Namespace) -> SleepTimes:
    """Return the times to sleep and wake, s of the day."""
    return WAKES[arguments.wake, arguments.fleet.partition("-")[0]]


def run(tasks: Sequence[Task], jobs: int) -> list[Row]:
    """Return the rows of all tasks, with a progress bar for people."""
    rows: list[Row] = []
    for found in track(_results(tasks, jobs), "days", len(tasks), console=Console(stderr=True)):
        rows += found
    return rows


def _results(tasks: Sequence[Task], jobs: int) -> Iterator[list[Row]]:
    if jobs == 1:
        yield from map(rows_of, tasks)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(rows_of, tasks)


def parsed(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add = parser.add_argument
    add("--fleet", choices=FLEETS, default="70b")
    add("--replicas", type=int, help="a smaller fleet, for a quick look")
    add("--days", type=int, default=20, help="random days")
    add("--duration", dest="duration_s", type=float, default=900.0, help="length of a run, s")
    add(
        "--speed", type=float, help="seconds of the day in one of the run; a day in a run if absent"
    )
    add("--weather", action="append", choices=tuple(weather_days.RATED), help="all that are here")
    add("--wake", choices=("sleep", "cold"), default="sleep", help="how deep replicas sleep")
    add("--utilisation", type=float, default=0.8, help="load, share of full power")
    add("--margin-share", type=float, default=SHIPPED.margin_share, help="of the budget left free")
    add("--over-share", type=float, default=SHIPPED.over_share, help="energy above the budget")
    add("--assumed-share", type=float, default=1.0, help="watts of the points, share of the true")
    add("--assumed-speed", type=float, default=1.0, help="speed of the points, share of the true")
    add("--clock-curve", action="append", choices=policies.CURVES, help="nominal if absent")
    add("--policy", action="append", choices=policies.POLICIES)
    add("--seed", type=int, default=0, help="of days and requests")
    add("--jobs", type=int, default=1, help="processes that share the days")
    add("--quick", action="store_true", help=f"{QUICK_DAYS} days of {QUICK_S:g} s")
    add("--figure", type=Path, help="PNG to draw the result in")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.days, arguments.duration_s = QUICK_DAYS, QUICK_S
    arguments.speed = arguments.speed or DAY_S / arguments.duration_s
    arguments.weather = arguments.weather or list(weather_days.sources_here())
    arguments.clock_curve = arguments.clock_curve or [scoreboard_table.NOMINAL]
    return arguments


def document_of(arguments: argparse.Namespace, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the result as the last line of a benchmark."""
    size = size_of(arguments, arguments.clock_curve[0], 0, 0.0)
    fleets = [document.fleet_of(make_bench(size))]
    found = document.simulated(
        "scoreboard", fleets, arguments, rows, scoreboard_table.targets(rows)
    )
    times, speed = wake_of(arguments), arguments.speed
    found["weather"] = {name: weather_days.year_quantiles(name) for name in arguments.weather}
    found["time"] = {
        "speed": speed,
        "shown_of_each_day_s": min(DAY_S, speed * arguments.duration_s),
        "scaled_alike": "days, their load, wakes, sleeps, periods of DynamoLLM",
        "not_scaled": "requests, engine steps, control period, delays of scale-down and drain",
    }
    found["wake"] = {
        "source": times.source, "wake_s_of_day": times.wake_s, "sleep_s_of_day": times.sleep_s
    }  # fmt: skip
    found["policies"] = scoreboard_table.policies_of(rows)
    found["headline"] = scoreboard_table.headline(rows)
    return found


def title_of(arguments: argparse.Namespace) -> str:
    """Return what the table and the figure are of."""
    speed, wake_s = arguments.speed, wake_of(arguments).wake_s
    shown_h = min(DAY_S, speed * arguments.duration_s) / 3600
    pace = "in real time" if speed == 1 else f"{speed:g} times as fast, wakes too"
    return (
        f"{arguments.fleet} on {arguments.days} random days, {shown_h:.3g} h of each {pace}; "
        f"a wake takes {wake_s:g} s of the day; margin {arguments.margin_share:.3g}; simulated"
    )


def main() -> None:
    """Run, print the tables, and then one JSON document."""
    arguments = parsed()
    rows = run(tasks_of(arguments), arguments.jobs)
    found = document_of(arguments, rows)
    title = title_of(arguments)
    scoreboard_table.show(found["policies"], found["headline"], title)
    if arguments.figure:
        scoreboard_figure.draw(rows, title).savefig(arguments.figure, dpi=130)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
