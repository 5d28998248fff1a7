"""`steppe batch`: rows that need not run now."""

from __future__ import annotations

import click

from steppe.cli import LazyGroup

PLACES = {
    "run": ("steppe.cli.batch_run:run_command", "Run the rows of a file, on a fleet or at a URL."),
    "resume": ("steppe.cli.batch_run:resume_command", "Go on with a job that was stopped."),
    "submit": ("steppe.cli.batch_jobs:submit_command", "Send a job to the Batch API of a gateway."),
    "status": ("steppe.cli.batch_jobs:status_command", "Show how far a job is."),
    "cancel": ("steppe.cli.batch_jobs:cancel_command", "End a job before its rows are done."),
    "report": ("steppe.cli.batch_jobs:report_command", "Write what a job took, with figures."),
}


@click.group(
    "batch",
    cls=LazyGroup,
    places=PLACES,
    epilog="Example: steppe batch run in.jsonl -o out.jsonl --config configs/demo.yaml",
)
def batch_group() -> None:
    """Run many rows when power is there, and lose none.

    The folder OUT.job beside an output has every answer that has come; a job that was stopped or
    killed goes on from there.
    """
