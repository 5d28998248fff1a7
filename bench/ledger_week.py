"""Is a Wh of a week of wind and sun ever sold green twice, and do all books say the same?

Two sites with wind, sun, a battery and the grid, in the measured wind of one week (La Haute Borne,
10 minutes; `--wind`) and the sun of a measured year. `ulanqab` has more than it uses: what it gives
to the grid it sends to `hohhot` as certificates. Simulated requests of three tenants are booked as
a run books them, streams are open over the turn of hours, some requests fail. Hours close as in a
run: period, certificates, match, sale. Afterwards GECs come late and are matched, corrections are
written, and all that is matched is cancelled. Then everything is counted again:

- each Wh of each certificate in the entries of the log, against what the turbines, cells and
  batteries of the simulation gave;
- what each tenant has been sold, in its account, against the shares of its receipts, against its
  statement, against the FOCUS table of it;
- its price: receipts of the log, account, statement, table;
- and one uJ more of each hour is asked for, which must be refused.

    python bench/ledger_week.py
    python bench/ledger_week.py --wind FILE --from 2014-02-01 --requests 60
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import orjson

from document import arguments_of
from ledger_week_site import (
    HOUR_US,
    PRICES,
    STEPS,
    TENANTS,
    OpenRequest,
    Site,
    sites_of,
    weather_of,
)
from steppe.ledger.corrections import Right
from steppe.ledger.entries import Hold, Movement, MovementKind, available, deposited
from steppe.ledger.green.certificates import GEC_WH, Certificate
from steppe.ledger.green.checking import check_matches
from steppe.ledger.green.match import Match
from steppe.ledger.green.sales import site_account, unit_of
from steppe.ledger.green.supply import UJ_PER_WH
from steppe.ledger.log.audit import check_log
from steppe.ledger.log.log import Log
from steppe.ledger.periods.checking import check_chain
from steppe.ledger.periods.period import Period
from steppe.ledger.receipt import KIND as RECEIPT
from steppe.ledger.receipt import Receipt
from steppe.ledger.signing import PrivateKey
from steppe.ledger.statements.focus import focus_csv
from steppe.ledger.statements.month import Month
from steppe.ledger.statements.statement import ReceiptShare, Statement
from steppe.ledger.store.books import take
from steppe.ledger.store.certificates import Register, holdings
from steppe.ledger.store.closing import close
from steppe.ledger.store.green import GreenTerms, keep_terms
from steppe.ledger.store.ledger_store import LedgerStore, LogEntry, TooLowError
from steppe.ledger.tariff import KIND as TARIFF
from steppe.measure.provenance import source_commit
from steppe.run.ledger_audit import audit
from steppe.run.ledger_correct import correct
from steppe.run.ledger_folder import ledger_folder
from steppe.run.ledger_green import (
    ALL_HOURS,
    cancel_certificates,
    match_closed_hours,
)
from steppe.run.ledger_statement import books_of_month
from targets import at_most

TERMS = GreenTerms("mengxi", {"coal": 62, "wind": 21, "sun": 11, "hydro": 6})
STEP_US = HOUR_US // STEPS
HOLD_NANO, DEPOSIT_NANO = 10**10, 10**15
WIND = Path("../shared/data/renewable/la_haute_borne_wind_8.2MW_10min_2014.csv.gz")
BOUNDARY = "gpu"


class Week:
    """The books of the sites, over some hours.

    Attributes:
        sites: The sites.
        store: Their store; one, so that certificates can be sent.
        first: The first hour, since the Unix epoch.
        hours: How many hours.
    """

    def __init__(self, folder: Path, sites: Sequence[Site], first: int, hours: int) -> None:
        """Begin with accounts of the tenants."""
        self.sites, self.first, self.hours, self._folder = sites, first, hours, folder
        self.store = LedgerStore(str(folder / "ledger.db"))
        self.sent = 0
        self.store.add([LogEntry(TARIFF, PRICES.id, "", 0, PRICES.entry)])
        with self.store.transaction() as transaction:
            for site in sites:
                keep_terms(transaction, site.name, TERMS)
        for tenant in TENANTS:
            self.store.open_account(tenant, PRICES.currency)
            paid = deposited(f"paid-{tenant}", tenant, PRICES.currency, DEPOSIT_NANO)
            self.store.move([paid], first * HOUR_US)

    @property
    def end(self) -> int:
        """The hour after the last one."""
        return self.first + self.hours

    def run(self) -> None:
        """Let all hours pass; each closes two hours later. The service starts again at times."""
        for hour in range(self.first, self.end):
            self._close(hour - 2, hour)
            for step in range(STEPS):
                begin_us = hour * HOUR_US + step * STEP_US
                for site in self.sites:
                    self._hold(site.begin_requests(begin_us), begin_us)
                    site.run_step(begin_us + STEP_US - 1)
                    if step % 3 == 2:
                        is_last = hour == self.end - 1 and step == STEPS - 1
                        self._take(site, begin_us + STEP_US - 1, is_last=is_last)
            if hour % 50 == 49:
                self.store.close()
                self.store = LedgerStore(str(self._folder / "ledger.db"))

    def close_rest(self, until: int) -> None:
        """Close the hours that are left, up to one of them."""
        for hour in range(self.end - 2, until):
            self._close(hour, hour + 2)
        self.store.give_back_expired((self.end + 200) * HOUR_US)

    def correct(self, receipts: Sequence[Receipt], hour: int) -> None:
        """Write corrections of receipts: half of the output, a tenth less energy, money back."""
        for number, one in enumerate(receipts):
            right = Right(
                output_tokens=one.output_tokens // 2, energy_uj=one.energy_uj - one.energy_uj // 10
            )
            correct(self.store, one.id, right, hour * HOUR_US + number)

    def import_gecs(self, count: int) -> None:
        """Take GECs of the week in for the site that has too little, after the week."""
        with self.store.transaction() as transaction:
            register = Register(transaction, self.end * HOUR_US)
            for number in range(count):
                span = (self.first, self.end)
                gec = Certificate(
                    f"{number:032}", "gec", "hohhot", "park", "mengxi", "sun", GEC_WH, *span
                )
                assert register.issue(gec)
                assert not register.issue(gec)

    def _hold(self, requests: Sequence[OpenRequest], now_us: int) -> None:
        with self.store.transaction() as transaction:
            for each in requests:
                until_us = now_us + 100 * HOUR_US
                hold = Hold(each.id, each.tenant, PRICES.currency, HOLD_NANO, until_us)
                transaction.hold([hold], now_us)

    def _take(self, site: Site, now_us: int, *, is_last: bool) -> None:
        """Book; a booking that is handed over twice counts once."""
        booking = site.booking(now_us, is_last=is_last)
        for _ in range(2):
            with self.store.transaction() as transaction:
                taken = take(transaction, booking, site.name, {PRICES.id: PRICES})
            assert taken.number == booking.number

    def _close(self, hour: int, now: int) -> None:
        if hour < self.first:
            return
        for site in self.sites:
            with self.store.transaction() as transaction:
                close(transaction, site.name, BOUNDARY, hour, now * HOUR_US)
            if site.gives_away:
                self._send(site.name, hour, now)

    def _send(self, giver: str, hour: int, now: int) -> None:
        """Send what a site did not use of an hour to the others."""
        with self.store.reading() as connection:
            left = [one for one in holdings(connection, hour, hour + 1) if one.owner == giver]
        with self.store.transaction() as transaction:
            register = Register(transaction, now * HOUR_US)
            for one in left:
                id_ = one.certificate.id
                if one.free_wh and one.certificate.form == "granular":
                    self.sent += one.free_wh
                    for _ in range(2):
                        register.send(f"sent-{id_}", id_, giver, "hohhot", one.free_wh)


@dataclass
class Found:
    """What was counted at the end.

    Attributes:
        counts: Numbers of things, Wh, uJ.
        faults: What does not hold, by kind: how often, or by how much.
        seconds: What took how long, s.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of a log, as they are read from its files."""

    receipts: Sequence[Receipt]
    periods: Sequence[Period]
    matches: Sequence[Match]
    certificates: Mapping[str, Certificate]


def entries_of(folder: Path, store: LedgerStore) -> Entries:
    """Publish all entries, check the log, and read them from its files."""
    key = PrivateKey.new("example.org/week")
    key.write(folder / "key")
    log = Log(folder / "log", key.name, [key])
    while entries := store.entries(log.head.size, 5_000):
        log.add(entries)
    check_log(folder / "log", log.checkpoint(), lambda _: None)
    by_kind: dict[str, list[bytes]] = {}
    for index in range(log.head.size):
        entry = log.entry(index)
        by_kind.setdefault(orjson.loads(entry)["kind"], []).append(entry)
    certificates = [Certificate.read(entry) for entry in by_kind.get("certificate", ())]
    return Entries(
        [Receipt.read(entry) for entry in by_kind.get("receipt", ())],
        [Period.read(entry) for entry in by_kind.get("period", ())],
        [Match.read(entry) for entry in by_kind.get("match", ())],
        {each.id: each for each in certificates},
    )


def check_supply(week: Week, entries: Entries, found: Found) -> None:
    """Count each Wh of each certificate, against what the simulation gave."""
    used_wh = check_matches(entries.matches, entries.certificates)
    counted: Counter[str] = Counter()
    for match in entries.matches:
        counted.update(match.certificates)
    for id_, wh in counted.items():
        found.faults["wh_used_twice"] += max(0, wh - entries.certificates[id_].wh)
        found.faults["wh_counted_otherwise"] += abs(wh - used_wh[id_])
    for site in week.sites:
        own = [each for each in entries.certificates.values() if each.producer == site.name]
        for source, gave_uj in site.own_uj.items():
            certified_wh = sum(each.wh for each in own if each.generated_by == source)
            found.faults["wh_more_than_generated"] += max(0, certified_wh - gave_uj // UJ_PER_WH)
        own_matches = [match for match in entries.matches if match.site == site.name]
        load_wh = sum(match.load_wh for match in own_matches if not match.number)
        found.faults["wh_of_load_lost"] += abs(load_wh - site.site_uj // UJ_PER_WH)
        found.counts[f"{site.name}_load_wh"] = load_wh
        found.counts[f"{site.name}_green_wh"] = sum(match.green_wh for match in own_matches)
        found.counts[f"{site.name}_gec_wh"] = sum(match.gec_wh for match in own_matches)
    found.counts["certificates"] = len(entries.certificates)
    found.counts["matches"] = len(entries.matches)
    found.counts["wh_sent_between_sites"] = week.sent


def check_tenants(week: Week, entries: Entries, month: Month, found: Found) -> None:
    """Compare what tenants were sold and paid: log, accounts, statements, FOCUS tables."""
    revenue_nano = 0
    for tenant in TENANTS:
        own = [one for one in entries.receipts if one.tenant == tenant]
        books = books_of_month(week.store, tenant, month, lambda *_: None)
        (statement,) = books.statements
        green_uj, paid_nano = focus_sums(statement)
        shares = {id_: shared.share for id_, shared in books.shares.items()}
        shared_uj = sum(shares[one.id].green_uj for one in own)
        greener = [one for one in own if not one.corrects and _is_greener(one, shares[one.id])]
        found.faults["receipts_greener_than_their_energy"] += len(greener)
        amount_nano = sum(one.amount_nano for one in own)
        balances = week.store.balances(available(tenant))
        sold_uj = sum(each.balance for each in balances if each.unit.startswith("green:"))
        money = sum(each.balance for each in balances if each.unit == PRICES.currency)
        for name, value in (
            ("statement", statement.sums.green_uj),
            ("focus", green_uj),
            ("account", sold_uj),
        ):
            found.faults[f"green_uj_{name}_differs"] += abs(value - shared_uj)
        for name, value in (
            ("statement", statement.sums.amount_nano),
            ("focus", paid_nano),
            ("account", DEPOSIT_NANO - money),
        ):
            found.faults[f"nano_{name}_differs"] += abs(value - amount_nano)
        revenue_nano += amount_nano
        found.counts[f"{tenant}_green_uj"] = shared_uj
    kept = [each for each in week.store.balances("revenue") if each.unit == PRICES.currency]
    found.faults["nano_revenue_differs"] += abs(sum(each.balance for each in kept) - revenue_nano)
    found.counts["receipts"] = len(entries.receipts)
    found.counts["corrections"] = sum(bool(one.corrects) for one in entries.receipts)


def _is_greener(receipt: Receipt, share: ReceiptShare) -> bool:
    return share.green_uj > receipt.energy_uj + share.idle_uj


def focus_sums(statement: Statement) -> tuple[int, int]:
    """Return green energy, uJ, and cost, 10^-9, as the FOCUS table of a statement adds up."""
    rows = list(csv.DictReader(io.StringIO(focus_csv(statement, "Steppe week"))))
    green_uj = sum(_whole(row["x_GreenJoules"], 6) for row in rows if row["x_GreenJoules"])
    return green_uj, sum(_whole(row["EffectiveCost"], 9) for row in rows)


def _whole(text: str, digits: int) -> int:
    """Return an exact decimal in units of `10**-digits`."""
    whole, _, part = text.partition(".")
    value = int(whole.removeprefix("-") + part.ljust(digits, "0"))
    return -value if text.startswith("-") else value


def check_no_more_is_sold(week: Week, entries: Entries, found: Found) -> None:
    """Ask for one uJ more than is left of each hour, which must be refused."""
    for match in entries.matches:
        if match.number:
            continue
        unit, own = unit_of(match.site, match.hour), site_account(match.site)
        left = [each.balance for each in week.store.balances(own) if each.unit == unit]
        more = Movement(
            f"more-{match.id}", MovementKind.TRANSFER, own, available("lab"), unit, sum(left) + 1
        )
        try:
            week.store.move([more], week.end * HOUR_US)
        except TooLowError:
            found.counts["sales_refused"] += 1
        else:
            found.faults["sold_more_than_matched"] += 1


def check_periods(week: Week, entries: Entries, found: Found) -> None:
    """Check the chain of the hours of each site, and that no energy is missing in it."""
    for site in week.sites:
        own = [each for each in entries.periods if each.site == site.name]
        check_chain(each.entry for each in own)
        metered_uj = sum(each.meter_uj for each in own)
        found.faults["uj_of_meters_lost"] += abs(metered_uj - site.meter_uj)
        found.faults["hours_without_a_period"] += week.hours + 1 - len(own)
    found.counts["periods"] = len(entries.periods)


def run_week(folder: Path, sites: Sequence[Site], first: int, hours: int) -> Found:
    """Let some hours pass in a folder, and count all of it again."""
    found, begun_s = Found(), time.perf_counter()
    week = Week(folder, sites, first, hours)
    week.run()
    # What is written in the hour after the last one: corrections.
    last = [one for one in map(Receipt.read, week.store.of_kind(RECEIPT)) if one.amount_nano]
    week.correct(last[:: max(1, len(last) // 20)], week.end)
    week.close_rest(week.end + 1)
    week.import_gecs(3)
    late = match_closed_hours(week.store, ALL_HOURS)
    assert match_closed_hours(week.store, ALL_HOURS) == []
    found.counts["late_matches"] = len(late)
    found.seconds["books"] = time.perf_counter() - begun_s
    entries = entries_of(folder, week.store)
    month = Month(*_month(first))
    for check in (check_supply, check_periods, check_no_more_is_sold):
        check(week, entries, found)
    check_tenants(week, entries, month, found)
    for site in sites:
        done = cancel_certificates(week.store, (), site.name, ALL_HOURS)
        found.counts["wh_cancelled"] += sum(done.values())
    matched_wh = sum(sum(match.certificates.values()) for match in entries.matches)
    found.faults["wh_matched_and_not_cancelled"] = matched_wh - found.counts["wh_cancelled"]
    week.store.close()
    audited = audit(ledger_folder(folder), lambda *_: None)
    found.faults["faults_of_the_audit"] = len(audited.faults)
    found.counts["audited_entries"] = audited.entries
    for fault in audited.faults[:9]:
        print(fault, file=sys.stderr)
    found.seconds["all"] = time.perf_counter() - begun_s
    return found


def _month(hour: int) -> tuple[int, int]:
    begin = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
    return begin.year, begin.month


def unit_of_fault(name: str) -> str:
    """Return the unit of what does not hold."""
    units = {"wh": "Wh", "uj": "uJ", "green": "uJ", "nano": f"10^-9 {PRICES.currency}"}
    return units.get(name.partition("_")[0], "")


def main() -> None:
    """Run the week, and print the document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wind", type=Path, default=WIND)
    parser.add_argument("--from", dest="begin", default="2014-02-03")
    parser.add_argument("--hours", type=int, default=168)
    parser.add_argument("--requests", type=int, default=120, help="per hour and site")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    begin = datetime.fromisoformat(arguments.begin).replace(tzinfo=UTC)
    weather = weather_of(arguments.wind, begin, arguments.hours, Random(arguments.seed))
    first = int(begin.timestamp()) // 3600
    with tempfile.TemporaryDirectory() as folder:
        sites = sites_of(weather, arguments.requests, arguments.seed)
        found = run_week(Path(folder), sites, first, arguments.hours)
    document = {
        "bench": "ledger_week",
        "commit": source_commit(),
        "hardware": f"one of {os.cpu_count()} cores, {platform.machine()}",
        "arguments": arguments_of(arguments),
        "energy_source": "modelled",
        "versions": {},
        "results": [dict(found.counts), {"seconds": found.seconds}],
        "targets": [
            at_most(name, value, unit_of_fault(name), 0)
            for name, value in sorted(found.faults.items())
        ],
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
