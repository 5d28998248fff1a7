from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from steppe.config import FleetSection
from steppe.fleet.driver.node_commands import NodeCommands, Switched

NODES = {"n1": "10.0.0.1", "n2": "10.0.0.2"}
NONE: frozenset[str] = frozenset()


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


def commands_of(clock: Clock | None = None, **fleet: Any) -> NodeCommands:
    return NodeCommands(FleetSection(**fleet), clock or Clock())


def wait_for(commands: NodeCommands, nodes_off: frozenset[str]) -> list[Switched]:
    give_up_s = time.monotonic() + 30.0
    while not (done := commands.follow(nodes_off, NODES)):
        assert time.monotonic() < give_up_s, "no command has ended"
        time.sleep(0.005)
    return done


def test_a_node_is_switched_off_and_on_by_the_commands_with_its_address(tmp_path: Path) -> None:
    log = tmp_path / "log"
    commands = commands_of(
        node_off_command=f"sh -c 'echo off {{node}} >> {log}'",
        node_on_command=f"sh -c 'echo on {{node}} >> {log}'",
    )
    assert commands.follow(NONE, NODES) == []
    off = frozenset({"n2"})
    assert wait_for(commands, off) == [Switched("n2", is_on=False)]
    assert commands.is_off("n2")
    assert commands.follow(off, {}) == [], "it is off, and has left the cluster"
    assert wait_for(commands, NONE) == [Switched("n2", is_on=True)]
    assert not commands.is_off("n2")
    assert log.read_text() == "off 10.0.0.2\non 10.0.0.2\n"


def test_a_command_that_fails_is_reported_in_one_line_and_repeated_after_a_pause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    commands = commands_of(clock, node_off_command="sh -c 'echo no route >&2; exit 3'")
    off = frozenset({"n1"})
    assert wait_for(commands, off) == [Switched("n1", False, "sh ended with 3: no route")]
    assert "node 10.0.0.1 was not switched off: sh ended with 3: no route" in caplog.text
    assert commands.follow(off, NODES) == []
    clock.now_s = 2.0
    assert wait_for(commands, off)[0].error


@pytest.mark.parametrize(
    ("fleet", "error"),
    [
        ({"node_off_command": "no-such-command"}, "no-such-command: "),
        ({"node_off_command": "sleep 30", "node_command_s": 0.05}, "timed out"),
        ({}, "asked for fleet.node_off_command"),
    ],
)
def test_a_command_that_cannot_run_or_takes_too_long_is_reported(
    fleet: dict[str, Any], error: str
) -> None:
    (done,) = wait_for(commands_of(**fleet), frozenset({"n1"}))
    assert error in done.error


def test_the_end_of_a_run_switches_on_every_node_that_is_off_or_about_to_be(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    commands = commands_of(
        node_off_command="sh -c 'sleep 0.05'", node_on_command=f"sh -c 'echo {{node}} >> {log}'"
    )
    assert wait_for(commands, frozenset({"n1"})) == [Switched("n1", is_on=False)]
    commands.follow(frozenset({"n1", "n2"}), NODES)
    commands.restore()
    assert sorted(log.read_text().split()) == ["10.0.0.1", "10.0.0.2"]
    commands.restore()
    assert len(log.read_text().split()) == 2, "once"


def test_a_node_that_has_never_been_known_is_left_alone() -> None:
    commands = commands_of(node_off_command="false")
    assert commands.follow(frozenset({"elsewhere"}), NODES) == []
    assert not commands.is_off("elsewhere")
