"""Does a fleet of 70B replicas do what the grid asks: at once, for hours, and second by second?

Three tests, simulated, energy modelled; the limits and the control loop are those of a live run.

- targets: 200 targets that are not announced, 10 to 40 % below the baseline, at random times: the
  test that Emerald and Nebius made in London (2025-12). A target is met if the draw is in the band
  (at most 2 % above it) within 40 s, and no second after that is more than 5 % above it.
- phoenix: 25 % less for three hours, after a ramp of 15 minutes: Emerald's field test in Phoenix
  (arXiv 2507.00909). Its public power data are the peer, where `--emerald` names the file.
- regulation: a limit that moves every 2 s around an operating point, scored as PJM does. The
  signal is SYNTHETIC: like RegD it lies within -1 and 1 and has no energy over 15 minutes; it is
  none of PJM's data. `--signal` takes a file of such data: two columns, seconds and value.

A limit is a ceiling; that the draw is near it from below comes from work that waits.

    python bench/grid_targets.py --emerald ../shared/data/calibration/emerald_phoenix
    python bench/grid_targets.py --test targets --count 10 --jobs 1
"""

from __future__ import annotations

import argparse
import csv
import json
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import document
import grid_figure
import grid_fleet
import policy_table
from grid_fleet import Floats, Run, Size
from steppe.grid.events.event import GridEvent, Share
from steppe.grid.limits.limit import Limit, Step
from steppe.grid.service.links import DRILL
from steppe.grid.service.seam import PutEvent, PutLimit
from steppe.grid.verify.regulation import regulation_score
from steppe.report.pjm import SAMPLE_S
from steppe.sim.grid_events import BEGAN_S, Announced
from targets import at_least, at_most

TESTS = ("targets", "phoenix", "regulation")
Row = dict[str, Any]
BAND, MOST_OVER, WITHIN_S = 0.02, 0.05, 40.0
"""Share above a target that is in the band; that no later second may exceed; and time to get in."""
WARM_S, PARTS = 150.0, 4
DOWN, HOLD_S, UP_S, SETTLE_S, GAP_S = (0.1, 0.4), (30.0, 50.0), 5.0, 10.0, (10.0, 25.0)
RAMP_S, LONG_HOLD_S, LONG_UP_S, LONG_SETTLE_S = 900.0, 3 * 3600.0, 720.0, 900.0
PHOENIX_SHARE, EMERALD_OVER = 0.75, 0.087
"""And by how much Emerald's draw was below its target, share of it (`emerald_over`)."""
PAID_OVER = 4e-3
"""Energy that may be above the limit of an event that is settled in minutes, share: its delivery is
paid for, so that a draw below it is a loss, too."""
SIGNAL_S, MIDDLE, OFFERED = 2.0, 0.72, 0.22
"""Time between two values of the signal, s; operating point and band, share of the full draw."""
NEUTRAL_S, SLOW_S = 900.0, 120.0


def event_at(at_s: float, name: str, share: float, ramp_s: float, hold_s: float) -> GridEvent:
    """Return an event that begins when it is heard."""
    is_long = hold_s > HOLD_S[1]
    starts_s = BEGAN_S + at_s
    return GridEvent(
        id=name,
        program="bench",
        priority=1,
        issued_s=starts_s,
        starts_s=starts_s,
        ramp_down_s=ramp_s,
        hold_until_s=starts_s + ramp_s + hold_s,
        ramp_up_s=LONG_UP_S if is_long else UP_S,
        target=Share(share),
        kind="relative",
        source=DRILL,
        settle_s=LONG_SETTLE_S if is_long else SETTLE_S,
    )


def random_targets(count: int, seed: int) -> tuple[list[GridEvent], float]:
    """Return targets one after the other, and when the last has ended, s."""
    rng, at_s, found = random.Random(seed), WARM_S, []
    for number in range(count):
        share = 1 - rng.uniform(*DOWN)
        event = event_at(at_s, f"target-{seed}-{number}", share, 0.0, rng.uniform(*HOLD_S))
        found.append(event)
        at_s = event.ends_s - BEGAN_S + rng.uniform(*GAP_S)
    return found, at_s


def run_targets(replicas: int, part: tuple[int, int]) -> list[Row]:
    """Run targets, so many with this seed; return a row for each."""
    count, seed = part
    events, end_s = random_targets(count, seed)
    asked = [Announced(each.issued_s - BEGAN_S, PutEvent(each)) for each in events]
    run = grid_fleet.run(Size(replicas, end_s, seed=seed), asked)
    return [judge(run, each) for each in events]


def judge(run: Run, event: GridEvent) -> Row:
    """Return how an event was followed."""
    ticks = [tick for tick in run.ticks if tick.grid and tick.grid.event == f"{DRILL}/{event.id}"]
    begin_s, hold_s = event.starts_s - BEGAN_S, event.hold_until_s - BEGAN_S
    held = [tick for tick in ticks if begin_s + 1e-3 < tick.t_s <= hold_s]
    after = [tick for tick in ticks if tick.t_s > hold_s + 1.0]
    baseline_w = held[0].grid.baseline_w if held[0].grid else None
    assert baseline_w is not None, "an event has a baseline"
    target_w = event.target_w(baseline_w) or 0.0
    times_s = np.array([tick.t_s for tick in held]) - begin_s
    over = np.array([tick.site_w for tick in held]) / target_w - 1
    first = int(np.argmax(over <= BAND)) if (over <= BAND).any() else len(over)
    later = over[first:]
    most = float(later.max()) if len(later) else float("inf")
    in_band_s = float(times_s[first]) if first < len(over) else float("inf")
    return {
        "target": event.id,
        "share": target_w / baseline_w,
        "in_band_s": in_band_s,
        "most_over_after": most,
        "mean_over_after": float(later.mean()) if len(later) else float("inf"),
        "rebound": max((tick.site_w / baseline_w - 1 for tick in after), default=0.0),
        "met": in_band_s <= WITHIN_S and most <= MOST_OVER,
    }


def run_phoenix(size: Size, share: float) -> tuple[Row, Run]:
    """Run the event of three hours, and return what it delivered.

    Args:
        size: The fleet; its duration is that of the event.
        share: What the site may draw, share of the baseline.
    """
    begin_s = 600.0
    event = event_at(begin_s, "phoenix", share, RAMP_S, LONG_HOLD_S)
    duration_s = event.ends_s - BEGAN_S + 60.0
    sized = replace(size, duration_s=duration_s)
    run = grid_fleet.run(sized, [Announced(begin_s, PutEvent(event))])
    ticks = [tick for tick in run.ticks if tick.grid and tick.grid.event == f"{DRILL}/phoenix"]
    baseline_w = ticks[0].grid.baseline_w if ticks[0].grid else None
    assert baseline_w is not None, "an event has a baseline"
    target_w, holds_s = share * baseline_w, event.holds_s - BEGAN_S
    hold_s = event.hold_until_s - BEGAN_S
    minutes = _minutes([t for t in run.ticks if holds_s < t.t_s <= hold_s])
    ramp = [t for t in ticks if t.t_s <= holds_s and t.grid and t.grid.target_w]
    asked = np.array([t.grid.target_w for t in ramp if t.grid and t.grid.target_w])
    drawn = np.array([t.site_w for t in ramp])
    after = _minutes([t for t in ticks if t.t_s > hold_s])
    row: Row = {
        "baseline_w": baseline_w,
        "target_w": target_w,
        "hold_mean_w": float(minutes.mean()),
        "over_delivery": float(1 - minutes.mean() / target_w),
        "most_over_minute": float(minutes.max() / target_w - 1),
        "ramp_most_over": float((drawn / asked - 1).max()),
        "rebound_minute": float(after.max() / baseline_w - 1),
        "firm_slo_attainment": run.summary["slo_attainment"],
        "failed": run.summary["requests"]["failed"],
        "output_tokens": run.summary["output_tokens"],
    }
    return row, run


def _minutes(ticks: Sequence[Any]) -> Floats:
    """Return the mean draw of each whole minute, W."""
    width_s = np.diff([ticks[0].t_s - 1.0, *(tick.t_s for tick in ticks)])
    energy_j = np.concatenate(([0.0], np.cumsum(width_s * [tick.site_w for tick in ticks])))
    ends_s = np.concatenate(([0.0], np.cumsum(width_s)))
    marks = np.arange(0.0, ends_s[-1] + 1e-6, 60.0)
    return np.asarray(np.diff(np.interp(marks, ends_s, energy_j)) / 60.0)


def emerald_over(folder: Path) -> Row:
    """Return what Emerald's public data say of its event, by the same measure, from 16:30."""
    with (folder / "SRP_total_power.csv").open(newline="") as file:
        rows = [(row["timestamp"][11:16], float(row["total"])) for row in csv.DictReader(file)]
    baseline_w = float(np.mean([watts for at, watts in rows if "14:40" <= at < "16:00"]))
    hold_w = float(np.mean([watts for at, watts in rows if "16:30" <= at < "19:30"]))
    target_w = PHOENIX_SHARE * baseline_w
    return {
        "baseline_w": baseline_w,
        "target_w": target_w,
        "hold_mean_w": hold_w,
        "over_delivery": 1 - hold_w / target_w,
    }


def synthetic_signal(seed: int, duration_s: float) -> Floats:
    """Return values within -1 and 1, every 2 s, that have no energy over 15 minutes.

    A random walk that is pulled back within two minutes, less its mean over 15 minutes, scaled so
    that it reaches the ends of the band now and then, and is cut there.
    """
    rng = np.random.default_rng(seed)
    steps, window = round(duration_s / SIGNAL_S), round(NEUTRAL_S / SIGNAL_S)
    values = np.zeros(steps + window)
    keep = np.exp(-SIGNAL_S / SLOW_S)
    for step in range(1, len(values)):
        values[step] = keep * values[step - 1] + rng.normal()
    sums = np.concatenate(([0.0], np.cumsum(values)))
    means = (sums[window:] - sums[:-window])[:steps] / window
    moved = values[window // 2 :][:steps] - means
    return np.asarray(np.clip(moved / (2.0 * moved.std()), -1.0, 1.0))


def read_signal(path: Path, duration_s: float) -> Floats:
    """Return a signal of a file with two columns, seconds and value."""
    with path.open(newline="") as file:
        values = [float(row[1]) for row in csv.reader(file) if row and row[0][:1].isdigit()]
    return np.clip(np.array(values[: round(duration_s / SIGNAL_S)]), -1.0, 1.0)


def run_regulation(replicas: int, signal: Floats) -> tuple[Row, Run]:
    """Let a limit move with a signal, and return the score.

    The fleet has followed the operating point for some minutes then, as one that is paid for it.
    """
    full_w, begin_s = grid_fleet.full_w(replicas), 300.0
    watts = full_w * (MIDDLE + OFFERED * signal)
    limits = [Announced(1.0, PutLimit(_limit(1.0, MIDDLE * full_w)))]
    limits += [
        Announced(
            begin_s + SIGNAL_S * number,
            PutLimit(_limit(begin_s + SIGNAL_S * number, float(each))),
        )
        for number, each in enumerate(watts)
    ]
    end_s = begin_s + SIGNAL_S * len(signal)
    run = grid_fleet.run(Size(replicas, end_s), limits)
    ends_s = np.asarray(begin_s + SIGNAL_S * np.arange(1, len(watts) + 1), dtype=np.float64)
    asked_w = _resampled(ends_s, watts, begin_s, end_s)
    drawn_w = _resampled(run.end_s, run.draw_w, begin_s, end_s)
    middle_w = MIDDLE * full_w
    score = regulation_score((asked_w - middle_w).tolist(), (drawn_w - middle_w).tolist())
    assert score is not None, "the signal moves"
    moved = float(np.abs(np.diff(signal)).sum() / (len(signal) * SIGNAL_S / 3600.0))
    return {
        "hours": len(signal) * SIGNAL_S / 3600.0,
        "band_w": OFFERED * full_w,
        "signal_deviation": float(signal.std()),
        "signal_mean": float(signal.mean()),
        "signal_moves_per_hour": moved,
        "precision": score.precision,
        "correlation": score.correlation,
        "delay": score.delay,
        "score": score.score,
    }, run


def _limit(at_s: float, watts: float) -> Limit:
    issued_s = BEGAN_S + at_s
    return Limit("regulation", DRILL, issued_s, (Step(issued_s, watts),), None, watts)


def _resampled(end_s: Floats, watts: Floats, begin_s: float, stop_s: float) -> Floats:
    """Return the means over spans of 10 s between two times, W."""
    width_s = np.diff(np.concatenate(([0.0], end_s)))
    if end_s[0] > begin_s:
        width_s[0] = end_s[0] - begin_s
    at_s = np.concatenate(([end_s[0] - width_s[0]], end_s))
    energy_j = np.concatenate(([0.0], np.cumsum(width_s * watts)))
    marks_s = np.arange(begin_s, stop_s + 1e-6, SAMPLE_S)
    return np.asarray(np.diff(np.interp(marks_s, at_s, energy_j)) / SAMPLE_S)


def judged_targets(rows: Sequence[Row]) -> list[Row]:
    """Return what the targets are held against, one line each and one for all."""
    lines = [
        at_most(f"{row['target']}: {100 * row['share']:.0f} % of the baseline, time to the band",
                row["in_band_s"], "s", WITHIN_S)
        | {"most_over_after": row["most_over_after"], "met": row["met"]}
        for row in rows
    ]  # fmt: skip
    met = sum(row["met"] for row in rows) / len(rows)
    return [at_least(f"targets met of {len(rows)}", met, "share", 1.0), *lines]


def judged_phoenix(row: Row) -> list[Row]:
    """Return what the event of three hours is held against."""
    name = "three hours at 75 %"
    return [
        at_most(f"{name}: over-delivery", row["over_delivery"], "share of the target", 0.01),
        at_most(f"{name}: worst minute above the target", row["most_over_minute"], "share", BAND),
        at_most(f"{name}: worst minute above the baseline", row["rebound_minute"], "share", 0.01),
    ]


def parsed() -> argparse.Namespace:
    """Return the arguments of the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--test", choices=TESTS, action="append", help="all if absent")
    parser.add_argument("--count", type=int, default=200, help="targets")
    parser.add_argument("--replicas", type=int, default=8, help="of 4 GPUs each")
    parser.add_argument("--hours", type=float, default=1.0, help="of regulation")
    parser.add_argument("--margin-share", type=float, default=0.0, help="of the three hours")
    over = "energy that may be above the limit of the three hours, share"
    parser.add_argument("--over-share", type=float, default=PAID_OVER, help=over)
    parser.add_argument("--jobs", type=int, default=2, help="processes that share the targets")
    parser.add_argument("--emerald", type=Path, help="folder of Emerald's public data")
    parser.add_argument("--signal", type=Path, help="a regulation signal instead of the synthetic")
    parser.add_argument("--figure", type=Path, help="PNG to draw in")
    return parser.parse_args()


def main() -> None:
    """Run, print a table, and then one JSON document."""
    arguments = parsed()
    tests, results, judged = arguments.test or TESTS, [], []
    runs: dict[str, Run] = {}
    if "targets" in tests:
        parts = [(arguments.count // PARTS or 1, seed) for seed in range(PARTS)]
        with ProcessPoolExecutor(arguments.jobs) as pool:
            found = pool.map(partial(run_targets, arguments.replicas), parts)
            rows = [row for part in found for row in part][: arguments.count]
        results += [{"test": "targets", **row} for row in rows]
        judged += judged_targets(rows)
    if "phoenix" in tests:
        shares = arguments.margin_share, arguments.over_share
        row, runs["phoenix"] = run_phoenix(Size(arguments.replicas, 0.0, *shares), PHOENIX_SHARE)
        results.append({"test": "phoenix", **row})
        judged += judged_phoenix(row)
        if arguments.emerald:
            results.append(
                {"test": "phoenix", "peer": "Emerald", **emerald_over(arguments.emerald)}
            )
    if "regulation" in tests:
        duration_s = 3600.0 * arguments.hours
        signal = synthetic_signal(1, duration_s)
        if arguments.signal:
            signal = read_signal(arguments.signal, duration_s)
        row, runs["regulation"] = run_regulation(arguments.replicas, signal)
        kind = "file" if arguments.signal else "synthetic"
        results.append({"test": "regulation", "signal": kind, **row})
        judged.append(at_least("regulation: precision", row["precision"], "share", 0.95))
    policy_table.show_all("what the grid asks; simulated, energy modelled", results[-30:])
    if arguments.figure:
        grid_figure.draw(runs).savefig(arguments.figure, dpi=130)
    fleet = {"fleet": "70b", "replicas": arguments.replicas, "firm_load": grid_fleet.FIRM_LOAD}
    print(json.dumps(document.simulated("grid_targets", [fleet], arguments, results, judged)))


if __name__ == "__main__":
    main()
