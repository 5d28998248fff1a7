"""Whose turn it is, where replicas that drain are called back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from steppe.control.plan import Plan
from steppe.control.reconcile import Action, DrainRule, Retune, Sleep, Wake, reconcile
from steppe.control.state import Observation, ReplicaState
from steppe.frontier.pareto import Frontier

LONGEST_S = 8.0
AWAKE, DRAINING, ASLEEP = ReplicaState.AWAKE, ReplicaState.DRAINING, ReplicaState.ASLEEP


@pytest.fixture
def seen(fleets: Any) -> Observation:
    """Return one that serves, one that drains, and one frozen with requests for long."""
    seen: Observation = fleets.of([AWAKE, DRAINING, ASLEEP], 0.0).observe(2 * LONGEST_S)
    frozen = replace(seen.replicas[2], outstanding=3)
    draining = replace(seen.replicas[1], since_s=seen.now_s - 1.0)
    return replace(seen, replicas=(seen.replicas[0], draining, frozen))


def actions_for(seen: Observation, frontier: Frontier, draining: int) -> list[Action]:
    """Return what a plan for two replicas yields beside so many that drain."""
    small, large = frontier.floor, frontier.full
    plan = Plan((large, small), large.draw_w + small.draw_w, draining)
    return reconcile(seen, plan, DrainRule(frontier.floor, LONGEST_S))


def test_nobody_that_is_called_back_is_frozen_for_one_whose_turn_has_come(
    frontier: Frontier, seen: Observation
) -> None:
    actions = actions_for(seen, frontier, draining=0)
    assert Retune("replica-1", frontier.full.clock_mhz, frontier.full.batch_limit) in actions
    assert not any(isinstance(action, Sleep | Wake) for action in actions)


def test_a_turn_does_not_wait_for_those_that_go_on_draining(
    frontier: Frontier, seen: Observation
) -> None:
    actions = actions_for(seen, frontier, draining=1)
    assert [action.replica for action in actions if isinstance(action, Wake)] == ["replica-2"]
    assert not any(isinstance(action, Sleep) for action in actions)


def test_who_waited_for_those_that_were_called_back_comes_next(
    frontier: Frontier, fleets: Any, seen: Observation
) -> None:
    fleet = fleets(seen)
    fleet.apply(actions_for(fleet.seen, frontier, draining=0))
    actions = actions_for(fleet.observe(seen.now_s + 1.0), frontier, draining=0)
    assert Sleep("replica-0") in actions
