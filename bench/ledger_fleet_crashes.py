"""Has each request of a live fleet one receipt although the processes of the run are killed?

A fleet of two synthetic replicas with a ledger and prices serves clients that stream. The processes
of its ledger, gateway, controller, replicas and node actor are killed by SIGKILL in a random order
and at random points, and come back by themselves. Every receipt that the store shows meanwhile is
kept.

In the end the books of the run and of its ledger agree to the microjoule, each served request of
the record has one receipt at its price, and no receipt that was seen is gone or has changed. A
request whose answer was complete and whose gateway died before its end was reported is in no record
and has no receipt: its tenant pays nothing, and its energy is unclaimed. These are counted.

    python bench/ledger_fleet_crashes.py --kills 20 --out bench/results/ledger_fleet_crashes.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_fleet import START_S, Clients, Fleet, Signal, free_port, make_config, wait_until
from ledger_load import CURRENCY
from steppe.ledger.receipt import KIND, Receipt
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.measure.provenance import source_commit
from steppe.report.record_folder import read_requests
from steppe.run.ledger_audit import audit
from steppe.run.ledger_folder import ledger_folder
from targets import at_least, at_most

TITLES = {
    "ledger": "ray::LedgerActor",
    "gateway": "ray::GatewayActor",
    "controller": "ray::Controller",
    "replica": "ray::ReplicaActor",
    "node actor": "ray::Node",
}
"""The processes that are killed, by the begin of their title."""
PROMPT_NANO, OUTPUT_NANO = 100, 400
TARIFF = f"""
id: flat-1
currency: {CURRENCY}
valid_from_us: 0
rates:
- {{prompt_nano: {PROMPT_NANO}, output_nano: {OUTPUT_NANO}}}
"""
CLIENTS, MORE = 4, 6
"""Clients that stream, and streams that complete between two kills."""
STUCK_S = 180.0
"""Longest time until the fleet goes on after a kill, s."""
NOT_SERVED = ("rejected", "shed", "invalid")
"""Outcomes of requests that have no receipt."""


@dataclass
class Trial:
    """A fleet, its clients, what was killed and what was seen.

    Attributes:
        place: Folder of the ledger.
        kills: Kills, by process.
        seen: Receipts that the store has shown, by id.
        problems: What must not be.
    """

    place: Path
    fleet: Fleet
    clients: Clients
    rng: random.Random
    kills: Counter[str] = field(default_factory=Counter)
    seen: dict[str, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def run(self, kills: int) -> None:
        """Kill one process after another, and wait until the fleet goes on."""
        names = [name for _ in range(kills) for name in TITLES][:kills]
        self.rng.shuffle(names)
        for name in names:
            time.sleep(self.rng.random())
            pids = self.fleet.pids(TITLES[name])
            if pids:
                victim = self.rng.choice(pids)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                self.kills[name] += 1
                self._wait_for_another(TITLES[name], set(pids) - {victim}, victim)
            self.look()
            print(f"kill {self.kills.total()}: {name}, {len(self.seen)} receipts", flush=True)

    def look(self) -> None:
        """Keep the receipts of the store; those of before must be there as they were."""
        found = self.receipts()
        for id_, entry in self.seen.items():
            if found.get(id_) != entry:
                self.problems.append(f"receipt {id_} is gone or has changed")
        self.seen |= found

    def receipts(self) -> dict[str, bytes]:
        """Return the receipts of the store, by id."""
        store = LedgerStore(str(self.place / "ledger.db"))
        entries = store.of_kind(KIND)
        store.close()
        found = {Receipt.read(entry).id: entry for entry in entries}
        if len(found) != len(entries):
            self.problems.append("a request has more than one receipt")
        return found

    def _wait_for_another(self, title: str, others: set[int], victim: int) -> None:
        def goes_on() -> bool:
            back = set(self.fleet.pids(title)) - others - {victim}
            return bool(back) and self.clients.completed(since_s) >= MORE

        since_s = time.monotonic()
        if math.isnan(wait_until(goes_on, STUCK_S)):
            raise SystemExit(f"the fleet does not go on without {title}")


def crash(place: Path, kills: int, seed: int) -> tuple[Trial, dict[str, Any]]:
    """Run a fleet, kill its processes, end it, and return what is in its books."""
    port, ledger = free_port(), place / "ledger"
    (place / "tariff.yaml").write_text(TARIFF)
    sections = {
        "ledger": {"folder": str(ledger), "tariffs": [str(place / "tariff.yaml")]},
        "gateway": {"port": port},
    }
    supply = Signal(place / "watts")
    fleet = Fleet.start(place, make_config(place, port, **sections), port)
    clients = Clients(fleet.url, CLIENTS)
    trial = Trial(ledger, fleet, clients, random.Random(seed))
    try:
        if math.isnan(wait_until(lambda: fleet.metric("steppe_gateway_ready") == 1, START_S)):
            raise SystemExit("the fleet has not started")
        clients.start()
        if math.isnan(wait_until(lambda: clients.completed() >= MORE, START_S)):
            raise SystemExit("the fleet does not serve")
        trial.run(kills)
        clients.stop(STUCK_S)
        fleet.interrupt()
        code = fleet.process.wait(START_S)
        if code:
            trial.problems.append(f"the run ended with {code}")
    finally:
        fleet.clean()
        supply.stop()
    trial.look()
    return trial, books_of(trial)


def books_of(trial: Trial) -> dict[str, Any]:
    """Compare the record of the run with its ledger, and return the sums."""
    found = audit(ledger_folder(trial.place), lambda *_: None)
    trial.problems += found.faults
    receipts = {r.request: r for r in map(Receipt.read, trial.seen.values())}
    recorded = read_requests(trial.fleet.record)
    served = [r for r in recorded if r.replica is not None and r.outcome not in NOT_SERVED]
    if receipts.keys() != {each.id for each in served}:
        trial.problems.append("the receipts are not those of the requests that were served")
    for each in served:
        receipt = receipts.get(each.id)
        if receipt is not None and each.outcome != "failed":
            price = PROMPT_NANO * each.prompt_tokens + OUTPUT_NANO * each.output_tokens
            said = (receipt.energy_uj, receipt.output_tokens, receipt.amount_nano)
            if said != (round((each.energy_j or 0.0) * 1e6), each.output_tokens, price):
                trial.problems.append(f"receipt {receipt.id} is not what the record has")
    summary = json.loads((trial.fleet.record / "summary.json").read_text())
    booked = summary["ledger"][-1]
    if booked["waiting"] or booked["lost"]:
        trial.problems.append(f"bookings wait or are lost: {booked}")
    if booked["meter_uj"] != round(summary["energy_j"] * 1e6):
        trial.problems.append("the meters of ledger and record differ")
    completed = {s.id for s in trial.clients.streams if s.end == "completed"}
    return {
        "kills": dict(trial.kills),
        "streams": dict(Counter(stream.end for stream in trial.clients.streams)),
        "receipts": len(receipts),
        "completed_without_receipt": len(completed - receipts.keys()),
        "books_uj": {name: booked[name] for name in booked if name.endswith("_uj")},
        "problems": trial.problems[:10],
    }


def document(trial: Trial, results: dict[str, Any], kills: int) -> dict[str, Any]:
    """Return the benchmark's last line."""
    return {
        "bench": "ledger_fleet_crashes",
        "commit": source_commit(),
        "hardware": {"machine": platform.machine(), "cpus": os.cpu_count(), "gpu": None},
        "versions": {"python": platform.python_version()},
        "energy_source": "emulated",
        "results": results,
        "targets": [
            at_least("kills", trial.kills.total(), "kills", kills),
            at_most(
                "receipts lost, doubled or wrong, and sums that differ", len(trial.problems), "", 0
            ),
        ],
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="also write the document to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ledger-crashes-") as name:
        try:
            trial, results = crash(Path(name), arguments.kills, arguments.seed)
        except SystemExit:
            print((Path(name) / "log").read_text(errors="replace")[-4000:], file=sys.stderr)
            raise
    made = document(trial, results, arguments.kills)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(made, indent=1) + "\n")
    print(json.dumps(made))


if __name__ == "__main__":
    main()
