"""The commands of README and docs: each is one that `steppe` knows, and does what it should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from tests.docs.blocks import COMMANDS, EMULATED, ROOT, Block, all_blocks, steppe_commands
from tests.docs.running import run_block, working_folder

from steppe.cli import main
from steppe.config import RunConfig
from steppe.config.several_sites import SeveralSitesConfig
from steppe.config.yaml_file import has_list_of_sites
from steppe.ledger.tariff import tariff_of

BLOCKS = all_blocks()
BY_HAND = {
    "by hand, needs root",
    "by hand, needs a GPU",
    "by hand, needs systemd",
    "by hand, needs a fleet of its own",
    "by hand, needs an installation",
    "by hand, needs public data",
    "by hand, needs a signal to end",
}
"""Every reason for which a block is not run."""
MARKERS = {"", "slow", EMULATED, "fleet", "a bill", *BY_HAND}
BY_ITSELF = ("", "slow", EMULATED)
"""The markers of blocks that need nothing but their page."""
LONGEST_LINE = 86
TARIFFS = "docs/ledger/accounts.md"
"""The page whose YAML is a tariff."""
"""Characters of code that fit beside the table of contents."""
FASTEST = ("README.md",)
"""The pages whose quick commands run in the fast suite."""


def runnable(*markers: str) -> list[Block]:
    languages = (COMMANDS, "python")
    return [block for block in BLOCKS if block.language in languages and block.marker in markers]


def run_page(page: str, markers: tuple[str, ...], folder: Path) -> None:
    """Run the blocks of a page with one of these markers, in their order, in one folder."""
    working_folder(folder)
    for block in runnable(*markers):
        if block.page == page:
            run_block(block, folder, within_s=300)


def pages_of_their_own() -> list[str]:
    """Return the pages with blocks, but for a fast one whose slow blocks are all on others."""
    blocks = runnable(*BY_ITSELF)
    others = {block.text for block in blocks if block.page not in FASTEST}
    pages = (
        block.page
        for block in blocks
        if block.page not in FASTEST or (block.marker and block.text not in others)
    )
    return list(dict.fromkeys(pages))


def parse(command: click.Command, name: str, arguments: tuple[str, ...]) -> None:
    """Parse arguments, down to the last subcommand, without running anything."""
    remaining, context = list(arguments), None
    while True:
        context = command.make_context(name, remaining, parent=context, resilient_parsing=False)
        remaining = [*context._protected_args, *context.args]
        if not isinstance(command, click.Group) or not remaining:
            return
        found_name, found, remaining = command.resolve_command(context, remaining)
        assert found_name is not None
        assert found is not None
        name, command = found_name, found


def test_commands_are_found_in_a_line_of_shell() -> None:
    line = "VAR=1 .venv/bin/steppe gpus --json | python -m json.tool && steppe model list # both"
    assert list(steppe_commands(line)) == [("gpus", "--json"), ("model", "list")]


def test_every_marker_is_one_that_the_tests_know() -> None:
    assert {block.marker for block in BLOCKS} <= MARKERS


def test_what_is_not_run_says_why() -> None:
    by_hand = [block for block in BLOCKS if block.marker in BY_HAND]
    assert {block.language for block in by_hand} <= {COMMANDS, "python"}


def test_code_fits_into_the_width_of_a_page() -> None:
    languages = (COMMANDS, "python", "yaml")
    too_long = [
        f"{block.page}:{block.line}: {line}"
        for block in BLOCKS
        for line in block.text.splitlines()
        if block.page != "README.md" and block.language in languages and len(line) > LONGEST_LINE
    ]
    assert too_long == []


def test_every_block_has_a_language() -> None:
    nameless = [f"{block.page}:{block.line}" for block in BLOCKS if not block.language]
    assert nameless == []


@pytest.mark.parametrize("block", runnable(*MARKERS), ids=lambda b: f"{b.page}:{b.line}")
def test_steppe_has_every_command_and_option_of_a_block(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(working_folder(tmp_path))
    for arguments in block.steppe_commands:
        if {"--help", "--version"} & set(arguments):
            continue
        parse(main, "steppe", arguments)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", FASTEST)
def test_the_quick_commands_of_a_page_run(page: str, tmp_path: Path) -> None:
    run_page(page, ("",), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", pages_of_their_own())
def test_the_commands_of_a_page_run(page: str, tmp_path: Path) -> None:
    run_page(page, BY_ITSELF, tmp_path)


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.language == "yaml"],
    ids=lambda b: f"{b.page}:{b.line}",
)
def test_a_piece_of_configuration_fits_into_a_run_and_a_tariff_is_one(block: Block) -> None:
    if block.page == TARIFFS:
        tariff_of(yaml.safe_load(block.text))
        return
    whole: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())
    piece = yaml.safe_load(block.text)
    if has_list_of_sites(piece):
        SeveralSitesConfig.model_validate(piece)
        return
    if "models" in piece:
        del whole["model"]
    RunConfig.model_validate(whole | piece)


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.language == "python"],
    ids=lambda b: f"{b.page}:{b.line}",
)
def test_a_python_example_compiles(block: Block) -> None:
    compile(block.text, f"{block.page}:{block.line}", "exec")
