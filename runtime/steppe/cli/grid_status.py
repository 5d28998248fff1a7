"""`steppe grid status` and `steppe grid limit`: asks the gateway of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import orjson

from steppe.batch.api_client import ApiClient
from steppe.errors import UsageError
from steppe.options import GivenPath, GivenText, json_option
from steppe.report.quantities import UNKNOWN, quantity
from steppe.run.batch import read_key

GATEWAY = "http://127.0.0.1:8000"
"""The gateway that is asked if none is named."""
_key_option = click.option(
    "--key-file", type=GivenPath(path_type=Path), help="File with the key for the gateway."
)


@click.command("status", epilog="Example: steppe grid status http://127.0.0.1:8000")
@click.argument("url", type=GivenText(), default=GATEWAY)
@_key_option
@json_option
def status_command(url: str, key_file: Path | None, as_json: bool) -> None:
    """Show the links of the run behind the gateway at URL, what is in force, and what is asked."""
    found = ApiClient(url, read_key(key_file)).ask("GET", "/steppe/v1/grid")
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        return
    for line in _lines(found):
        click.echo(line)


@click.command("limit", epilog="Example: steppe grid limit 700 --expires 2027-01-31T18:00:00Z")
@click.argument("watts", type=click.FloatRange(min=0), required=False)
@click.option("--lift", is_flag=True, help="Lift the limit.")
@click.option(
    "--name", type=GivenText(), default="limit", show_default=True, help="Name of the limit."
)
@click.option("--expires", type=GivenText(), help="End of the limit: ISO 8601 with an offset.")
@click.option("--url", type=GivenText(), default=GATEWAY, show_default=True, help="The gateway.")
@_key_option
@json_option
def limit_command(watts: float | None, key_file: Path | None, **given: Any) -> None:
    """Limit the draw of the site to WATTS from now on; the lowest of all limits holds."""
    if (watts is None) != given["lift"]:
        found = "neither" if watts is None else "both"
        raise UsageError(f"asked for WATTS or --lift, found {found}")
    client = ApiClient(given["url"], read_key(key_file))
    name, path = given["name"], "/steppe/v1/budget"
    if watts is None:
        answer = client.ask("DELETE", f"{path}?name={quote(name)}")
    else:
        body = {"limit_w": watts, "name": name}
        if given["expires"] is not None:
            body["expires"] = given["expires"]
        answer = client.ask("PUT", path, body)
    if given["as_json"]:
        click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2))
    else:
        click.echo(_in_force(answer))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each thing that is known."""
    budget, draw = (quantity(found[key], "W") for key in ("budget_w", "draw_w"))
    source = found["budget_source"] or UNKNOWN
    yield f"site {found['site']}: draw {draw}, budget {budget} ({source})"
    if found["away"]:
        yield f"the last answer of the controller is old: {found['away']}"
    yield _in_force(found)
    for link in found["links"]:
        yield _link(link)
    for event in found["events"]:
        yield _event(event)
    for refused in found["refused"]:
        times = f" ({refused['times']} times)" if refused["times"] > 1 else ""
        yield f"refused over {refused['link']}: {refused['reason']}{times}"


def _in_force(found: dict[str, Any]) -> str:
    limit = found["in_force"]
    if limit is None:
        return "no limit of the grid is in force"
    return f"in force: {limit['name']}, {quantity(limit['limit_w'], 'W')}"


def _link(link: dict[str, Any]) -> str:
    state = {None: "cannot be lost", True: "LOST", False: "heard"}[link["lost"]]
    default = "no default" if link["default_w"] is None else quantity(link["default_w"], "W")
    holds = default if link["default_w"] is None else f"default {default}"
    problem = f": {link['problem']}" if link["problem"] else ""
    return f"link {link['name']}: {state}, {holds}{problem}"


def _event(event: dict[str, Any]) -> str:
    verdict = event["verdict"]
    answer = "complies" if verdict["complies"] else f"CANNOT COMPLY: {verdict['reason']}"
    asked = "no limit now" if event["target_w"] is None else quantity(event["target_w"], "W")
    baseline = quantity(event["baseline_w"], "W")
    return f"event {event['id']} over {event['link']}: {asked}, baseline {baseline}, {answer}"
