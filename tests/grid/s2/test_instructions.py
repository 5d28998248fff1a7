from __future__ import annotations

import math

import pytest

from steppe.errors import UsageError
from steppe.grid.limits.limit import Step
from steppe.grid.s2.instructions import Instructed, Instruction, of_json, of_limit, to_json


def asked(id_: str, *steps: tuple[float, float], ends_s: float = math.inf) -> Instruction:
    return Instruction(id_, tuple(Step(at, watts) for at, watts in steps), ends_s)


def watts(instructed: Instructed, at_s: float) -> float:
    limit = instructed.limit("envelope", "s2", 700.0)
    assert limit is not None
    found = limit.at(at_s)
    return limit.default_w if found is None else found


def test_an_instruction_holds_to_its_end_and_then_the_default() -> None:
    held = Instructed().with_new(asked("a", (10, 100), (20, 200), ends_s=30), 5)
    assert [watts(held, at) for at in (9, 10, 20, 30)] == [700, 100, 200, 700]


def test_a_later_instruction_replaces_one_from_its_start_on() -> None:
    held = Instructed().with_new(asked("a", (10, 100), ends_s=100), 5)
    held = held.with_new(asked("b", (50, 500), ends_s=60), 20)
    assert [watts(held, at) for at in (49, 50, 60, 90)] == [100, 500, 700, 700]


def test_one_that_arrives_later_and_begins_earlier_does_not_replace_what_begins_after_it() -> None:
    held = Instructed().with_new(asked("a", (50, 100)), 5).with_new(asked("b", (10, 500)), 6)
    assert [watts(held, at) for at in (10, 49, 50, 900)] == [500, 500, 100, 100]


def test_of_two_with_one_start_the_last_counts() -> None:
    held = Instructed().with_new(asked("a", (10, 100)), 5).with_new(asked("b", (10, 500)), 6)
    assert watts(held, 10) == 500
    assert held.find("a") is None


def test_revoking_one_leaves_the_others() -> None:
    held = Instructed().with_new(asked("a", (10, 100)), 5).with_new(asked("b", (50, 500)), 6)
    assert [watts(held.without("b", 7), at) for at in (10, 60)] == [100, 100]
    assert held.without("a", 7).limit("envelope", "s2", 700.0) is not None
    assert held.without("a", 7).without("b", 7).limit("envelope", "s2", 700.0) is None


def test_issues_rise_where_the_clock_is_set_back() -> None:
    held = Instructed().with_new(asked("a", (10, 100)), 1000)
    assert held.with_new(asked("b", (20, 100)), 5).issued_s > held.issued_s


def test_what_is_over_is_forgotten() -> None:
    held = Instructed().with_new(asked("a", (10, 100), ends_s=20), 5)
    held = held.with_new(asked("b", (50, 100)), 30)
    assert [each.id for each in held.held] == ["b"]


def test_instructions_come_back_from_the_limit_that_they_made() -> None:
    held = Instructed().with_new(asked("a", (10, 100), (20, 200), ends_s=30), 5)
    held = held.with_new(asked("b", (50, 500), ends_s=60), 6)
    limit = held.limit("envelope", "s2", 700.0)
    assert limit is not None
    again = of_limit(limit)
    assert again.limit("envelope", "s2", 700.0) == limit
    later = again.with_new(asked("c", (25, 50), ends_s=40), 21)
    assert [watts(later, at) for at in (21, 25, 40, 50, 60)] == [200, 50, 700, 500, 700]


def test_what_is_kept_comes_back() -> None:
    held = (
        Instructed().with_new(asked("a", (10, 100), ends_s=20), 5).with_new(asked("b", (9, 1)), 6)
    )
    assert of_json(to_json(held)) == held


@pytest.mark.parametrize("found", [{}, {"held": [{"id": "a", "steps": [], "ends_s": None}]}])
def test_what_is_no_instruction_is_refused(found: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="asked for what was kept"):
        of_json({"issued_s": 1.0, **found})
