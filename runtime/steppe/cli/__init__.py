"""What can a person ask for? One file per command; each wires the parts it needs."""

from __future__ import annotations

import errno
import importlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, Any

import click
from click.exceptions import NoArgsIsHelpError

from steppe.errors import SteppeError, UsageError

COMMANDS = {
    "demo": ("steppe.cli.demo:demo_command", "Follow one compressed day of wind and sun."),
    "serve": ("steppe.cli.serve:serve_command", "Serve a model within a power budget."),
    "simulate": ("steppe.cli.simulate:simulate_command", "Simulate a fleet in virtual time."),
    "load": ("steppe.cli.load:load_command", "Replay a request trace against an endpoint."),
    "frontier": (
        "steppe.cli.frontier:frontier_group",
        "Predict what each watt buys for a model on a GPU.",
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


class OneLine(click.ClickException):
    """What went wrong, in one line."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        click.echo(f"steppe: {' '.join(self.message.split())}", file=file, err=True)


class UsageLine(OneLine):
    """What the user asked for and cannot be."""

    exit_code = 2


@contextmanager
def _one_line() -> Generator[None]:
    """Say in one line what goes wrong in the block."""
    try:
        yield
    except NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        path = "steppe" if error.ctx is None else error.ctx.command_path
        line = f"{error.format_message().rstrip('.')}; see {path} --help"
        raise UsageLine(line) from error
    except UsageError as error:
        raise UsageLine(str(error)) from error
    except SteppeError as error:
        raise OneLine(str(error)) from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # nobody reads on, as in `| head`: click leaves quietly
            raise
        place = "" if error.filename is None else f"{error.filename}: "
        raise OneLine(place + (error.strerror or repr(error))) from error


class SteppeGroup(click.Group):
    """Imports a command when it is asked for, and ends with one line on what went wrong.

    Exit codes: 2 when the user asked for something that cannot be, 1 for every other error of
    steppe or of the operating system. Anything else is a bug and shows its traceback.
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

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the options before the command."""
        with _one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _one_line():
            return super().invoke(ctx)


@click.group(
    cls=SteppeGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: steppe demo",
)
@click.version_option(package_name="steppe")
def main() -> None:
    """Serve language models on the power there is."""
