"""`steppe ledger explain`: why a receipt says what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from steppe.cli.ledger_options import own_trust_options
from steppe.ledger.statements.amounts import MICRO_DIGITS, NANO_DIGITS, grouped_text
from steppe.ledger.statements.month import EPOCH, hour_text
from steppe.ledger.tariff import UJ_PER_J, divided
from steppe.options import GivenPath, GivenText, json_option
from steppe.run.ledger_explain import Explained, MeterInterval, explain
from steppe.run.ledger_folder import ledger_folder

_RULE = (
    "In each window the energy of a replica, without idle and transitions, is divided among its",
    "engine steps by their duration, and within a step among its requests by the weight of their",
    "tokens (docs/energy.md, From joules to requests). The single steps are not kept.",
)


@click.command("explain", epilog="Example: steppe ledger explain runs/one 4f0c2a")
@click.argument("folder", type=GivenPath(path_type=Path))
@click.argument("receipt", type=GivenText())
@own_trust_options
@json_option
def explain_command(
    folder: Path,
    receipt: str,
    *,
    keys: tuple[str, ...],
    log: str | None,
    store: str | None,
    as_json: bool,
) -> None:
    """Show why RECEIPT, an id of a receipt or of its request, has its price and its joules.

    Its place in the log, each part of its price, what the meter of its replica counted meanwhile,
    the book of its hour, what was set aside and paid, and its corrections.
    """
    found = explain(ledger_folder(folder, keys, log, store), receipt)
    if as_json:
        click.echo(json.dumps(_document(found)))
        return
    for line in _lines(found):
        click.echo(line)


def _lines(found: Explained) -> Iterator[str]:
    one = found.receipt
    yield f"receipt {one.id} of {one.tenant}, request {one.request}: {one.model}, {one.priority}"
    yield f"  arrived {_time(one.started_us)}, ended {_time(one.ended_us)}: {one.finish}"
    logged = "in the signed log" if found.place < found.published else "not published yet"
    yield f"  entry {found.place} of {found.published}: {logged}"
    if one.corrects:
        yield f"  a correction of {one.corrects}: all amounts are differences"
    yield from _price(found)
    yield from _energy(found)
    yield from _hour(found)
    for movement in found.movements:
        amount = grouped_text(movement.amount, NANO_DIGITS)
        way = f"{movement.taken_from} -> {movement.given_to}"
        yield f"  {movement.kind}: {amount} {movement.unit}, {way}"
    for other in found.corrections:
        amount = grouped_text(other.amount_nano, NANO_DIGITS)
        yield f"  corrected by {other.id}: {other.output_tokens:+} output tokens, {amount}"


def _price(found: Explained) -> Iterator[str]:
    one, rate = found.receipt, found.rate
    exact = grouped_text(one.amount_nano, NANO_DIGITS)
    if rate is None:
        yield f"price: {exact} {one.currency or 'of no currency'}: no rate was fixed at admission"
        return
    yield f"price: {exact} {one.currency}, rate {one.tariff}, fixed at admission"
    counts = (
        ("prompt tokens, computed", one.prompt_tokens - one.cached_tokens, rate.prompt_nano),
        ("prompt tokens, cached", one.cached_tokens, rate.cached_nano),
        ("output tokens", one.output_tokens, rate.output_nano),
    )
    for name, count, nano in counts:
        amount = grouped_text(count * nano, NANO_DIGITS)
        yield f"  {count:,} {name} x {grouped_text(nano, NANO_DIGITS)} = {amount}"
    joules = grouped_text(divided(one.energy_uj * rate.joule_nano, UJ_PER_J), NANO_DIGITS)
    each = grouped_text(rate.joule_nano, NANO_DIGITS)
    yield f"  {grouped_text(one.energy_uj, MICRO_DIGITS)} J x {each} = {joules}"


def _energy(found: Explained) -> Iterator[str]:
    one, interval = found.receipt, found.interval
    joules = grouped_text(one.energy_uj, MICRO_DIGITS)
    yield f"energy: {joules} J, {one.energy_source}, boundary {one.boundary}"
    if interval is None:
        yield "  the record of the run has no line of this request: its meter interval is not kept"
    else:
        yield from _interval(interval, found)
    yield from (f"  {line}" for line in _RULE)


def _interval(interval: MeterInterval, found: Explained) -> Iterator[str]:
    one = found.receipt
    span = f"{interval.begin_s:.3f} to {interval.end_s:.3f} s of the run, {interval.ticks} ticks"
    yield f"  replica {interval.replica}, {span}: {interval.metered_j:,.3f} J of its GPUs"
    if interval.metered_j > 0:
        share = one.energy_uj / UJ_PER_J / interval.metered_j
        yield f"  the request has {share:.1%} of it"
    if interval.output_tokens > 0:
        tokens = f"{one.output_tokens:,} of some {interval.output_tokens:,.0f} output tokens"
        yield f"  and {tokens} of the replica"


def _hour(found: Explained) -> Iterator[str]:
    one, period = found.receipt, found.period
    if period is None:
        closes = _time(found.closes_us)
        yield f"hour {hour_text(one.hour)}: open until {closes}; shares of idle come then"
        return
    yield f"hour {hour_text(one.hour)}: {period.receipts:,} receipts, uJ:"
    names = ("meter", "carried_in", "receipts", "corrections", "idle", "transition", "waste")
    for name in (*names, "unclaimed", "carried_out"):
        if value := getattr(period, f"{name}_uj", 0):
            yield f"  {name.replace('_', ' '):<12}{value:>20,}"
    idle = grouped_text(found.share.idle_uj, MICRO_DIGITS)
    yield f"  share of idle: {idle} J, by the joules of the receipts"
    if green := found.share.green_uj:
        yield f"  green: {grouped_text(green, MICRO_DIGITS)} J, matched by the hour"


def _time(time_us: int) -> str:
    return f"{EPOCH + timedelta(microseconds=time_us):%Y-%m-%dT%H:%M:%S.%fZ}"


def _document(found: Explained) -> dict[str, Any]:
    return {
        "place": found.place,
        "published": found.published,
        "receipt": asdict(found.receipt),
        "rate": None if found.rate is None else asdict(found.rate),
        "hour": None if found.period is None else asdict(found.period),
        "closes_us": found.closes_us,
        "idle_uj": found.share.idle_uj,
        "green_uj": found.share.green_uj,
        "movements": [asdict(one) for one in found.movements],
        "corrections": [asdict(one) for one in found.corrections],
        "interval": None if found.interval is None else asdict(found.interval),
        "rule": " ".join(_RULE),
    }
