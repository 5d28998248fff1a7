"""Calls to actors whose results are not there yet."""

from __future__ import annotations

from typing import Any

import pytest
import ray
from tests.fixtures.ray_actors import FakeCall

from steppe.fleet.controller.pending_call import Answers, PendingCall

pytestmark = pytest.mark.usefixtures("fake_ray")


def call(answer: Any, *, ready: bool = True) -> PendingCall:
    return PendingCall(FakeCall(answer, ready), due_s=10.0)


def test_the_results_of_many_calls_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    read = ray.get

    def count(calls: list[FakeCall]) -> list[Any]:
        looks.append(len(calls))
        found: list[Any] = read(calls)
        return found

    monkeypatch.setattr(ray, "get", count)
    calls = [call(1), call(2, ready=False), call(3)]
    answers = Answers.of(calls)
    assert [answers.has(each) for each in calls] == [True, False, True]
    assert [answers.result(calls[0]), answers.result(calls[2])] == [1, 3]
    assert looks == [2]


def test_one_call_that_failed_raises_only_for_itself() -> None:
    failed, good = call(ray.exceptions.RayActorError()), call(1)
    answers = Answers.of([good, failed])
    assert answers.has(failed)
    assert answers.result(good) == 1
    with pytest.raises(ray.exceptions.RayActorError):
        answers.result(failed)


def test_without_a_call_none_has_a_result() -> None:
    assert not Answers.of([]).has(call(1))
