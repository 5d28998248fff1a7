"""The open seam: a class of one's own as the policy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.fake_fleet import FakeFleet

import steppe
from steppe.config import ControlSection
from steppe.control.policy.make import make_policy
from steppe.control.policy.policy import PoolFacts
from steppe.control.state import ReplicaState
from steppe.errors import ConfigError
from steppe.frontier.pareto import Frontier

AWAKE = ReplicaState.AWAKE
MODULE = "own_policies_of_a_test"
CODE = """
class Number:
    def __init__(self, pool): ...
    def decide(self, observation): return 7

class TooMany:
    def __init__(self, pool): self.point = pool.frontier.floor
    def decide(self, observation):
        from steppe import Plan
        return Plan((self.point,) * 9, 0.0)

class Blind:
    def __init__(self, pool): ...

class Hungry:
    def __init__(self, pool, more): ...
    def decide(self, observation): ...

number = 7
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with a module of policies."""
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    (tmp_path / "broken_policies_of_a_test.py").write_text("class :\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop(MODULE, None)


def policy_of(frontier: Frontier, name: str) -> steppe.Policy:
    control = ControlSection(policy=name)
    return make_policy(PoolFacts(frontier, 2, 1, control, 0.2, 300.0, lambda *_: ()))


def test_a_class_of_ones_own_decides(frontier: Frontier) -> None:
    policy = policy_of(frontier, "tests.fixtures.own_policy:EqualShares")
    plan = policy.decide(FakeFleet.of([AWAKE] * 2, 2 * frontier.full.draw_w).observation)
    assert plan.awake == (frontier.full,) * 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere_at_all:Best", "asked for nowhere_at_all:Best, found: No module named"),
        ("broken_policies_of_a_test:Best", "found: invalid syntax"),
        (f"{MODULE}:Best", f"asked for {MODULE}:Best, found no such class in .*{MODULE}.py"),
        (f"{MODULE}:number", "found no class with a decide method in"),
        (f"{MODULE}:Blind", "found no class with a decide method in"),
        (f"{MODULE}:Hungry", "must take one argument, the steppe.PoolFacts: missing a required"),
    ],
)
def test_a_class_that_cannot_be_used_is_an_error_of_one_line(
    frontier: Frontier, name: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^control.policy: .*{message}[^\n]*$"):
        policy_of(frontier, name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Number", "for a steppe.Plan, found int"),
        ("TooMany", "asked for 9 awake replicas, found 2 that can serve"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_an_error_of_one_line(
    frontier: Frontier, name: str, message: str
) -> None:
    policy = policy_of(frontier, f"{MODULE}:{name}")
    with pytest.raises(ConfigError, match=f"^control.policy: [^\n]*{message}$"):
        policy.decide(FakeFleet.of([AWAKE] * 2, 100.0).observation)
