from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from tests.fixtures.dsx import ISV, NOW_S

from steppe.grid.dsx.envelope import Envelope, MessageError, time_of
from steppe.grid.dsx.replay import ReplayGuard
from steppe.grid.dsx.seal import seal
from steppe.grid.dsx.topics import LOAD_TARGET


@pytest.fixture
def envelope() -> Envelope:
    return seal(ISV, LOAD_TARGET, {}, NOW_S)


def test_an_id_is_new_once_for_as_long_as_the_window_lets_it_in(envelope: Envelope) -> None:
    guard = ReplayGuard(300, NOW_S - 1000)
    assert guard.check(envelope, NOW_S - 300) == "new"
    for after_s in (-300, 0, 299, 300):
        assert guard.check(envelope, NOW_S + after_s) == "seen"
    with pytest.raises(MessageError, match="a message within 300 s"):
        guard.check(envelope, NOW_S + 300.5)


@pytest.mark.parametrize("off_s", [-301, 301])
def test_a_message_outside_the_window_is_refused(envelope: Envelope, off_s: float) -> None:
    with pytest.raises(MessageError, match="a message within 300 s"):
        ReplayGuard(300, NOW_S - 1000).check(envelope, NOW_S + off_s)


def test_a_message_from_before_the_start_is_refused(envelope: Envelope) -> None:
    with pytest.raises(MessageError, match="a message since our start"):
        ReplayGuard(300, NOW_S + 1).check(envelope, NOW_S + 2)


def test_a_source_that_floods_is_refused_and_others_are_not(envelope: Envelope) -> None:
    guard = ReplayGuard(300, NOW_S - 1000, most=3)
    for _ in range(3):
        guard.check(replace(envelope, id=str(uuid4())), NOW_S)
    with pytest.raises(MessageError, match="at most 3 messages"):
        guard.check(envelope, NOW_S)
    other = replace(envelope, source="//grid/v1/isv/other")
    assert guard.check(other, NOW_S) == "new"
    later = replace(envelope, time=time_of(NOW_S + 301))
    assert guard.check(later, NOW_S + 301) == "new"
