"""What can a person ask for? One file per command; each wires the parts it needs."""

from __future__ import annotations

import importlib
from typing import Any

import click

from steppe.errors import SteppeError, UsageError

COMMANDS = {
    "demo": ("steppe.cli.demo:demo_command", "Follow one compressed day of wind and sun."),
    "serve": ("steppe.cli.serve:serve_command", "Serve a model within a power budget."),
    "simulate": ("steppe.cli.simulate:simulate_command", "Simulate a fleet in virtual time."),
    "load": ("steppe.cli.load:load_command", "Replay a request trace against an endpoint."),
    "frontier": (
        "steppe.cli.frontier:frontier_command",
        "Tell what each watt buys for a model on a GPU.",
    ),
    "bench": ("steppe.cli.bench:bench_group", "Measure tokens per joule."),
    "gpus": ("steppe.cli.gpus:gpus_command", "List the GPUs here and which knobs they have."),
    "agent": ("steppe.cli.agent:agent_command", "Run the privileged agent of one node."),
    "model": ("steppe.cli.model:model_group", "Get and list language models."),
    "config": ("steppe.cli.config:config_group", "Check run configurations."),
}
"""Name: where its click command is, and what it does in one line.

The line stands here so that `steppe --help` need not import what a command needs.
"""


class SteppeGroup(click.Group):
    """Imports a command when it is asked for, and ends with one line on what went wrong.

    Exit codes: 2 when the user asked for something that cannot be, 1 for every other error of
    steppe. Anything else is a bug and shows its traceback.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the help text."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None when there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        place, _ = COMMANDS[cmd_name]
        module, attribute = place.split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print an error of steppe as one line."""
        try:
            return super().invoke(ctx)
        except SteppeError as error:
            click.echo(f"steppe: {' '.join(str(error).split())}", err=True)
            ctx.exit(2 if isinstance(error, UsageError) else 1)


@click.group(
    cls=SteppeGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: steppe demo",
)
@click.version_option(package_name="steppe")
def main() -> None:
    """Serve language models on the power there is."""
