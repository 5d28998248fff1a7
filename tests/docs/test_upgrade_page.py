"""The page of upgrades agrees with the code."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import yaml
from tests.docs.blocks import ROOT

from steppe.batch.store.tables import SCHEMA as JOBS
from steppe.cli import main
from steppe.config import load_config
from steppe.errors import ConfigError
from steppe.ledger.store.tables import SCHEMA as LEDGER
from steppe.sites.settlement.store import SCHEMA as SETTLEMENTS

OPERATE = ROOT / "docs" / "operate"
UPGRADE = (OPERATE / "upgrade.md").read_text()


@pytest.mark.parametrize("key", ["ramp_up_share", "nameplate_w", "least_cap_w"])
def test_a_key_that_a_release_removed_is_refused_by_its_name(tmp_path: Path, key: str) -> None:
    demo = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())
    demo.setdefault("control", {})[key] = 1
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(demo))
    with pytest.raises(ConfigError, match=f"control.{key}: unknown key"):
        load_config(tmp_path / "run.yaml")


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
