"""`steppe grid offer`, `commit` and `commitments`: what a site offers, and what it has promised."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson

from steppe.cli.grid_status import GATEWAY
from steppe.cli.rendering_options import rendering_options
from steppe.options import GivenPath, GivenText, json_option
from steppe.report.quantities import quantity
from steppe.run import grid_offers
from steppe.run.grid_offers import AskedOffer
from steppe.run.grid_renderings import Language, RenderingTerms, rendered

_WATTS = click.IntRange(min=0)
_SECONDS = click.FloatRange(min=0)
_key_option = click.option(
    "--key-file", type=GivenPath(path_type=Path), help="File with the key for the gateway."
)


@click.command("offer", epilog="Example: steppe grid offer runs/one --hold 1800")
@click.argument("place", metavar="[RUN|URL]", type=GivenText(), default=GATEWAY)
@click.option(
    "--notice",
    type=_SECONDS,
    default=60.0,
    show_default=True,
    help="Notice of a call, s; of a RUN.",
)
@click.option(
    "--hold",
    type=click.FloatRange(min=1),
    default=900.0,
    show_default=True,
    help="Longest time of a call, s; of a RUN.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0.5, 0.99),
    default=0.9,
    show_default=True,
    help="Share of the futures in which the watts are there; of a RUN.",
)
@rendering_options
@_key_option
@json_option
def offer_command(
    place: str,
    *,
    notice: float,
    hold: float,
    confidence: float,
    language: Language | None,
    key_file: Path | None,
    as_json: bool,
    **terms: Any,
) -> None:
    """Show how many watts a site offers, by hour.

    A running site (URL) answers by its configuration. Of a RUN, or of the folder of its grid, the
    history is asked what it offers from its end on.
    """
    asked = AskedOffer(notice, hold, confidence)
    found = grid_offers.offers_at(place, key_file, asked)
    if language is not None:
        given = {name: value for name, value in terms.items() if value is not None}
        click.echo(rendered(found, place, language, RenderingTerms(**given)))
        return
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    for line in _offers(found):
        click.echo(line)


@click.command(
    "commit",
    epilog="Example: steppe grid commit c1 reserve 2027-01-31T18:00Z 2027-01-31T20:00Z --down 400",
)
@click.argument("id_", metavar="ID", type=GivenText())
@click.argument("programme", type=GivenText())
@click.argument("starts", metavar="FROM", type=GivenText())
@click.argument("until", type=GivenText())
@click.option("--down", type=_WATTS, default=0, help="How many W less can be called.")
@click.option("--up", type=_WATTS, default=0, help="How many W more can be called.")
@click.option("--hold", type=click.FloatRange(min=1), help="Longest time of a call, s.")
@click.option("--notice", type=_SECONDS, help="Notice of a call, s.")
@click.option("--url", type=GivenText(), default=GATEWAY, show_default=True, help="The gateway.")
@_key_option
@json_option
def commit_command(id_: str, programme: str, starts: str, until: str, **given: Any) -> None:
    """Promise watts to PROGRAMME between two times, ISO 8601 with an offset.

    They have to be offered, and not promised yet. The same commitment again changes nothing.
    """
    asked = {
        "id": id_,
        "programme": programme,
        "from": starts,
        "until": until,
        "down_w": given["down"],
        "up_w": given["up"],
    }
    asked |= {f"{name}_s": given[name] for name in ("hold", "notice") if given[name] is not None}
    found = grid_offers.commit_at(given["url"], given["key_file"], asked)
    if given["as_json"]:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        click.echo(_commitment(found))


@click.command("commitments", epilog="Example: steppe grid commitments http://127.0.0.1:8000")
@click.argument("place", metavar="[RUN|URL]", type=GivenText(), default=GATEWAY)
@_key_option
@json_option
def commitments_command(place: str, *, key_file: Path | None, as_json: bool) -> None:
    """Show what a site has promised: a running one (URL) what has not ended, a RUN all of it."""
    found = grid_offers.commitments_at(place, key_file)
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    for each in found:
        click.echo(_commitment(each))
    if not found:
        click.echo("nothing is promised")


def _offers(found: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each window and direction."""
    if history := found.get("history"):
        yield f"from {history}"
    for offer in found.get("offers", ()):
        for way in ("down", "up"):
            when = _span(offer["from"], offer["until"])
            yield f"{when} {way}: {_power(offer[way], offer['call'])}"
        if offer["broken"]:
            yield f"  cannot be kept: {', '.join(offer['broken'])}"
    if not found.get("offers"):
        yield "nothing is offered: there are no offers in the answer"


def _power(power: dict[str, Any], call: dict[str, Any]) -> str:
    if not power["watts"]:
        return f"0 W: {power['reason']}"
    return (
        f"{quantity(power['watts'], 'W')} in {call['confidence']:.0%}, "
        f"{quantity(power['free_w'], 'W')} free, with {call['notice_s']:g} s of notice, "
        f"at {quantity(power['ramp_w_per_s'], 'W/s')}, for {call['hold_s']:g} s, "
        f"at {power['price_per_mwh']:.2f}/MWh"
    )


def _commitment(one: dict[str, Any]) -> str:
    ways = [(one["down_w"], "less"), (one["up_w"], "more")]
    watts = " and ".join(f"{quantity(w, 'W')} {way}" for w, way in ways if w)
    return f"{one['id']}: {watts} for {one['programme']}, {_span(one['from'], one['until'])}"


def _span(from_s: float, until_s: float) -> str:
    first, last = (datetime.fromtimestamp(at_s, UTC) for at_s in (from_s, until_s))
    return f"{first:%Y-%m-%d %H:%M} to {last:%H:%MZ}"
