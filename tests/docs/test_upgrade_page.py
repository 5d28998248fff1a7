"""The page of upgrades agrees with the code."""

from __future__ import annotations

import re

import click
import pytest
from tests.docs.blocks import ROOT

from steppe.batch.store.tables import SCHEMA as JOBS
from steppe.cli import main
from steppe.ledger.store.tables import SCHEMA as LEDGER
from steppe.sites.settlement.store import SCHEMA as SETTLEMENTS

OPERATE = ROOT / "docs" / "operate"
UPGRADE = (OPERATE / "upgrade.md").read_text()


def test_the_page_has_the_versions_of_the_stores() -> None:
    found = re.search(r"batch jobs (\d+), ledger (\d+), settlements (\d+)", UPGRADE)
    assert found is not None
    versions = [str(schema.version) for schema in (JOBS, LEDGER, SETTLEMENTS)]
    assert list(found.groups()) == versions


@pytest.mark.parametrize("page", ["upgrade.md", "troubleshooting.md"])
def test_commands_in_the_text_exist(page: str) -> None:
    commands = re.findall(r"\bsteppe ((?:[a-z-]+ ?)+)", "\n".join(inline_code(page)))
    assert commands
    assert [command for command in commands if not exists(command.split())] == []


def inline_code(page: str) -> list[str]:
    """Return the code in the text of a page that calls `steppe`."""
    found = re.findall(r"`([^`\n]+)`", (OPERATE / page).read_text())
    return [code for code in found if re.match(r"(?:sudo )?steppe [a-z]", code)]


def exists(words: list[str]) -> bool:
    """Return whether words begin with a command; what follows it are its arguments."""
    command: click.Command = main
    for word in words:
        if not isinstance(command, click.Group):
            return True
        found = command.get_command(click.Context(command), word)
        if found is None:
            return command.invoke_without_command
        command = found
    return True
