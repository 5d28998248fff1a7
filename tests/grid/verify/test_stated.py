"""Baselines that no past day makes."""

from __future__ import annotations

import pytest

from steppe.errors import UsageError
from steppe.grid.verify.load import Load
from steppe.grid.verify.stated import ControlGroup, DeclaredBaseline, FirmLevel, sha256_of
from steppe.grid.verify.times import EventTimes

TIMES = EventTimes(foreseeable_s=50, start_s=100, end_s=130)
SAID = Load(100, 10, (5, 6, 7))


def test_a_declared_baseline_is_what_was_declared() -> None:
    declared = DeclaredBaseline(SAID, 49, TIMES)
    assert declared.watts(100, 130) == (5, 6, 7)
    assert declared.name == "declared"
    assert sha256_of(declared) != sha256_of(DeclaredBaseline(SAID, 48, TIMES))


def test_a_declaration_once_the_event_can_be_foreseen_is_refused() -> None:
    with pytest.raises(UsageError, match="before the event could be foreseen, found 0 s after"):
        DeclaredBaseline(SAID, 50, TIMES)


def test_an_interval_without_a_declaration_is_refused() -> None:
    with pytest.raises(UsageError, match=r"declared baseline: .* found 3 of 4"):
        DeclaredBaseline(SAID, 0, TIMES).watts(100, 140)


def test_a_firm_level_owes_the_difference_from_the_subscribed_level() -> None:
    firm = FirmLevel(1000, 700, 10)
    assert firm.watts(100, 130) == (1000, 1000, 1000)
    assert firm.committed_w == 300
    assert sha256_of(firm) != sha256_of(FirmLevel(1000, 699, 10))
    with pytest.raises(UsageError, match="less than the subscribed 5 W, found 5 W"):
        FirmLevel(5, 5, 10)


def test_a_control_group_scales_with_the_number_of_replicas() -> None:
    groups = ControlGroup(("a", "b", "c"), ("d", "e"), others_w=100)
    measured = groups.measured(Load(100, 10, (400, 401, None)))
    assert measured.watts(100, 120) == (1100, 1102)
    assert sha256_of(measured) == sha256_of(groups.measured(SAID))
    assert sha256_of(measured) != sha256_of(ControlGroup(("a",), ("d",)).measured(SAID))
    with pytest.raises(UsageError, match=r"control group: .* found 2 of 3"):
        measured.watts(100, 130)


@pytest.mark.parametrize("groups", [((), ("a",)), (("a",), ()), (("a",), ("a", "b"))])
def test_groups_that_are_empty_or_share_a_replica_are_refused(
    groups: tuple[tuple[str, ...], tuple[str, ...]],
) -> None:
    with pytest.raises(UsageError, match="each of two groups"):
        ControlGroup(*groups)
