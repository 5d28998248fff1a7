from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.agent.loss_policy import (
    ClockFloor,
    Floor,
    HoldThenFloor,
    LossPolicy,
    PowerFloor,
    Restore,
    format_loss,
    parse_loss,
)
from steppe.errors import UsageError

FLOORS = st.builds(ClockFloor, st.integers(0, 3000)) | st.builds(
    PowerFloor, st.integers(0, 2000).map(float)
)
POLICIES = (
    st.just(Restore())
    | st.builds(Floor, FLOORS)
    | st.builds(HoldThenFloor, st.integers(0, 600).map(float), FLOORS)
)


@given(POLICIES)
def test_a_policy_survives_being_written_and_read(loss: LossPolicy) -> None:
    assert parse_loss(format_loss(loss)) == loss


def test_policies_read_as_they_are_documented() -> None:
    assert parse_loss("restore") == Restore()
    assert parse_loss("floor=200.5W") == Floor(PowerFloor(200.5))
    assert parse_loss("floor=200W") == Floor(PowerFloor(200.0))
    assert parse_loss("hold=30s,floor=210MHz") == HoldThenFloor(30.0, ClockFloor(210))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hold",
        "hold=30s",
        "floor=210",
        "floor=-1W",
        "Restore",
        "floor=1.2.3W",
        "floor=.MHz",
        "floor=²W",
        f"floor={'9' * 400}MHz",
        "hold=1.2.3s,floor=210MHz",
        "hold=.s,floor=210MHz",
    ],
)
def test_anything_else_is_refused_and_named(text: str) -> None:
    with pytest.raises(UsageError, match="loss policy"):
        parse_loss(text)
