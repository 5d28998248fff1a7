"""`steppe grid`: what the grid asks of a site, and what the site offers and delivers."""

from __future__ import annotations

import click

from steppe.cli import LazyGroup

_EVENTS = "steppe.cli.grid_events"
PLACES = {
    "status": (
        "steppe.cli.grid_status:status_command",
        "Show the links of a run, what is in force, events and refusals.",
    ),
    "limit": (
        "steppe.cli.grid_status:limit_command",
        "Limit the draw of a site, or lift the limit.",
    ),
    "plan": (
        "steppe.cli.grid_plan:plan_command",
        "Plan what to buy, store and run in each quarter of an hour of a day.",
    ),
    "backtest": (
        "steppe.cli.grid_backtest:backtest_command",
        "See what a plan would have cost and earned on past days.",
    ),
    "offer": (
        "steppe.cli.grid_offer:offer_command",
        "Show how many watts a site offers, by hour.",
    ),
    "commit": (
        "steppe.cli.grid_offer:commit_command",
        "Promise watts to a programme.",
    ),
    "commitments": (
        "steppe.cli.grid_offer:commitments_command",
        "Show what a site has promised.",
    ),
    "events": (f"{_EVENTS}:events_command", "List the events of a run, and their reports."),
    "report": (f"{_EVENTS}:report_command", "Show what an event has changed."),
    "audit": (f"{_EVENTS}:audit_command", "Make each report again, and compare."),
}


@click.group(
    "grid", cls=LazyGroup, places=PLACES, epilog="Example: steppe grid status http://127.0.0.1:8000"
)
def grid_group() -> None:
    """Follow the grid, keep what was offered, and prove it."""
