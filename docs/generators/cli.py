"""The command-line reference, from the click commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from generators.markdown import NOTICE, page, table
from steppe.cli import main

INTRODUCTION = """
Every command has `--help` with an example. Commands that print results take `--json` and then print
one JSON document. Exit codes: 0 on success, 1 for an error of Steppe or of the operating system, 2
when what was asked for is not possible. An error is one line on standard error.
"""


def cli_page() -> str:
    """Return the page."""
    context = click.Context(main, info_name="steppe", **main.context_settings)
    return page(NOTICE, "# Command line", INTRODUCTION, *_blocks(main, context))


def _blocks(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield a command's description and options, then those of its subcommands."""
    depth = min(context.command_path.count(" ") + 2, 4)
    yield f"{'#' * depth} `{context.command_path}`"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{context.command_path} {usage}\n```"
    yield _help(command.help or "")
    rows = [row for row in map(_row, command.get_params(context)) if row is not None]
    if rows:
        yield table(("option", "meaning", "default"), rows)
    if command.epilog:
        _, _, example = command.epilog.partition("Example: ")
        yield f"Example:\n\n```text\n{example}\n```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None, "the group lists it"
            inner = click.Context(child, info_name=name, parent=context)
            yield from _blocks(child, inner)


def _help(text: str) -> str:
    """Return a help text as Markdown; paragraphs that click must not wrap stay as they are."""
    blocks = text.replace("\f", "").split("\n\n")
    return "\n\n".join(
        "```text\n" + block.strip().removeprefix("\b").strip("\n") + "\n```"
        if block.strip().startswith("\b")
        else " ".join(block.split())
        for block in blocks
    )


def _row(parameter: click.Parameter) -> tuple[str, str, str] | None:
    """Return the table row of an option; None for arguments and `--help`."""
    if not isinstance(parameter, click.Option) or "--help" in parameter.opts:
        return None
    names = [*parameter.opts, *parameter.secondary_opts]
    metavar = "" if parameter.is_flag else f" {_value(parameter)}"
    return f"`{', '.join(names)}{metavar}`", parameter.help or "", _default(parameter)


def _default(parameter: click.Option) -> str:
    default = parameter.to_info_dict()["default"]
    if parameter.required:
        return "required"
    if parameter.is_flag:
        chosen = parameter.opts if default else parameter.secondary_opts
        return f"`{chosen[0]}`" if parameter.secondary_opts else "–"
    return f"`{default}`" if isinstance(default, int | float | str | Path) else "–"


def _value(parameter: click.Option) -> str:
    """Return what stands for the value in a usage line, such as `FILE` or `a|b`."""
    if parameter.metavar:
        return parameter.metavar
    if isinstance(parameter.type, click.Choice):
        return "|".join(map(str, parameter.type.choices))
    words = {"integer range": "N", "integer": "N", "float range": "X", "float": "X"}
    name = parameter.type.name
    return words.get(name, name if name.startswith("n,") else name.upper())
