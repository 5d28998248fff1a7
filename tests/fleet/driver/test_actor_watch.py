from __future__ import annotations

import pytest
import ray
from tests.fixtures.ray_actors import FakeActor

from steppe.fleet.driver.actor_watch import HUNG_S, ActorWatch

pytestmark = pytest.mark.usefixtures("fake_ray")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def looks(watch: ActorWatch, clock: Clock, actor: FakeActor, seconds: float) -> None:
    """Look once a second for so long."""
    for _ in range(int(seconds)):
        watch.look({"the gateway": actor})
        clock.now_s += 1.0


def test_an_actor_that_answers_is_left_alone() -> None:
    clock, actor = Clock(), FakeActor()
    looks(ActorWatch(clock), clock, actor, 3 * HUNG_S)
    assert set(actor.names()) == {"ping"}


def test_an_actor_that_hangs_is_ended_once_so_that_ray_restarts_it() -> None:
    clock, actor = Clock(), FakeActor(ready=False)
    watch = ActorWatch(clock)
    looks(watch, clock, actor, HUNG_S)
    assert "kill" not in actor.names()
    looks(watch, clock, actor, 4)
    assert actor.args("kill") == [(False,)]


def test_an_actor_that_died_is_left_to_ray() -> None:
    clock, actor = Clock(), FakeActor({"ping": ray.exceptions.RayActorError()})
    looks(ActorWatch(clock), clock, actor, 3 * HUNG_S)
    assert "kill" not in actor.names()


def test_a_pause_of_this_process_ends_no_actor_that_answers_after_it() -> None:
    clock, actor = Clock(), FakeActor(ready=False)
    watch = ActorWatch(clock)
    looks(watch, clock, actor, 3)
    clock.now_s += 500.0
    looks(watch, clock, actor, 1)
    actor.calls[0].ready = True
    looks(watch, clock, actor, 3)
    assert "kill" not in actor.names()


def test_a_slow_poll_between_two_looks_hides_no_actor_that_hangs() -> None:
    clock, actor = Clock(), FakeActor(ready=False)
    watch = ActorWatch(clock)
    for _ in range(8):
        looks(watch, clock, actor, 1)
        clock.now_s += 5.0
    assert "kill" in actor.names()
