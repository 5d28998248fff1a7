"""What the demo has to show at its end: an exit code of 0, or the reasons why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from steppe.load.results import LoadResult
from steppe.load.stream import Completed
from steppe.run.demo_sites.places import ANYWHERE, NEAREST
from steppe.run.demo_sites.served import PhaseSums


@dataclass(frozen=True, slots=True)
class ClientSums:
    """What the clients of all sites saw in a phase.

    Attributes:
        sent: Requests that were sent.
        completed: Those whose whole answer arrived.
        errors: What happened to the others, the most frequent first.
        p50_ttft_s: Median time to the first token, s; None without one.
        p99_ttft_s: Its 99th percentile, s.
    """

    sent: int
    completed: int
    errors: tuple[str, ...]
    p50_ttft_s: float | None
    p99_ttft_s: float | None

    def document(self) -> dict[str, float | int | None]:
        """Return it as JSON values."""
        return {
            "sent": self.sent,
            "completed": self.completed,
            "p50_ttft_s": self.p50_ttft_s,
            "p99_ttft_s": self.p99_ttft_s,
        }


def client_sums(results: Mapping[str, LoadResult]) -> ClientSums:
    """Return what the clients saw of all sites together."""
    requests = [each for result in results.values() for each in result.requests]
    ttft_s = [each.ttft_s for each in requests if each.ttft_s is not None]
    finishes = [each.finish for each in requests if not isinstance(each.outcome, Completed)]
    errors = [message for result in results.values() for message in result.errors]
    p50_s, p99_s = map(float, np.percentile(ttft_s, (50, 99))) if ttft_s else (None, None)
    return ClientSums(
        sent=len(requests) + sum(result.not_sent for result in results.values()),
        completed=sum(isinstance(each.outcome, Completed) for each in requests),
        errors=tuple(dict.fromkeys([*errors, *finishes])),
        p50_ttft_s=p50_s,
        p99_ttft_s=p99_s,
    )


@dataclass(frozen=True, slots=True)
class BooksFound:
    """What was found in the books of the sites.

    Attributes:
        lines: What was found, a line each.
        faults: What does not hold, a line each.
        document: The settlement of each pair, as JSON values.
    """

    lines: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    document: Mapping[str, object] = field(default_factory=dict)


def faults_of(
    sums: Mapping[str, PhaseSums],
    clients: Mapping[str, ClientSums],
    books: BooksFound,
    exit_codes: Mapping[str, int],
) -> tuple[str, ...]:
    """Return why the demo did not show what it is to show, a line each; none if it did.

    Args:
        sums: What the sites did, by phase.
        clients: What the clients saw, by phase.
        books: What was found in the books.
        exit_codes: How the process of each site ended.
    """
    near, far = sums[NEAREST], sums[ANYWHERE]
    faults = []
    if far.on_surplus <= near.on_surplus:
        asked = f"asked for more requests on surplus than {near.on_surplus} at the nearest site"
        faults.append(f"{asked}, found {far.on_surplus}")
    if not far.moved:
        faults.append("asked for requests that move to another site, found none")
    if near.moved:
        faults.append(f"nearest site: asked for none that moves, found {near.moved}")
    for phase, seen in clients.items():
        if seen.completed < seen.sent:
            reason = "; ".join(seen.errors[:3]) or "no reason"
            found = f"found {seen.completed}: {reason}"
            faults.append(f"{phase}: asked for {seen.sent} whole answers, {found}")
    faults += [
        f"{site}: asked for exit code 0, found {code}" for site, code in exit_codes.items() if code
    ]
    return (*faults, *books.faults)


def lines_of(
    sums: Mapping[str, PhaseSums], clients: Mapping[str, ClientSums]
) -> Sequence[tuple[str, str, str]]:
    """Return the rows of the table at the end: what, at the nearest site, with Steppe."""

    def row(name: str, text: Mapping[str, str]) -> tuple[str, str, str]:
        return name, text[NEAREST], text[ANYWHERE]

    return [
        row("requests", {p: f"{s.served:,}" for p, s in sums.items()}),
        row(
            "on surplus",
            {p: f"{s.on_surplus:,} ({100 * s.surplus_share:.0f} %)" for p, s in sums.items()},
        ),
        row(
            "moved to another site",
            {p: f"{s.moved:,} ({100 * s.moved_share:.0f} %)" for p, s in sums.items()},
        ),
        row("TTFT p50, p99", {p: _times(seen) for p, seen in clients.items()}),
        row("energy", {p: f"{s.energy_j / 1000:.2f} kJ" for p, s in sums.items()}),
        row("from the grid", {p: f"{s.bought_j / 1000:.2f} kJ" for p, s in sums.items()}),
    ]


def _times(seen: ClientSums) -> str:
    if seen.p50_ttft_s is None or seen.p99_ttft_s is None:
        return "–"
    return f"{seen.p50_ttft_s:.2f} s, {seen.p99_ttft_s:.2f} s"
