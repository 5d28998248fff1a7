from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steppe.agent.messages import (
    Accepted,
    AgentStatus,
    Answer,
    AskStatus,
    Done,
    FollowPowerLimits,
    GpuLimits,
    Heartbeat,
    LeaseStatus,
    NotHolder,
    RefusedAnswer,
    Release,
    Request,
    ResetLimits,
    SetClockLimit,
    SetPowerLimit,
    TakeLease,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from steppe.errors import AgentError

WATTS = st.floats(0, 1e6)
REQUESTS = (
    st.builds(
        TakeLease, st.floats(0.01, 1e6), st.text(max_size=200), st.lists(st.text()).map(tuple)
    )
    | st.sampled_from([Heartbeat(), Release(), AskStatus(), ResetLimits(None)])
    | st.builds(SetClockLimit, st.text(), st.integers(0, 10_000))
    | st.builds(SetPowerLimit, st.text(), WATTS)
    | st.builds(
        FollowPowerLimits,
        st.lists(WATTS).map(tuple),
        st.dictionaries(st.text(), st.lists(WATTS).map(tuple)),
        WATTS,
    )
    | st.builds(ResetLimits, st.text())
)
LIMITS = st.builds(
    GpuLimits,
    st.text(),
    st.none() | st.integers(0, 10_000),
    st.none() | st.integers(0, 10_000),
    st.none() | WATTS,
    st.booleans(),
    st.none() | st.text(),
    st.none() | st.text(),
    st.none() | st.integers(),
)
LEASES = st.builds(LeaseStatus, st.text(), st.integers(), WATTS)
ANSWERS = (
    st.sampled_from([Done(), NotHolder()])
    | st.builds(Accepted, WATTS)
    | st.builds(RefusedAnswer, st.text(), st.text())
    | st.builds(AgentStatus, st.lists(LEASES).map(tuple), st.text(), st.lists(LIMITS).map(tuple))
)


@given(REQUESTS)
def test_a_request_survives_the_line(request: Request) -> None:
    line = encode_request(request)
    assert line.count(b"\n") == 1
    assert decode_request(line) == request


@given(ANSWERS)
def test_an_answer_survives_the_line(answer: Answer) -> None:
    line = encode_answer(answer)
    assert line.count(b"\n") == 1
    assert decode_answer(line) == answer


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[1]",
        b'{"ask": "explode"}',
        b'{"ask": "take_lease", "lease_s": 0}',
        b'{"ask": "set_power_limit", "uuid": "GPU-a", "limit_w": NaN}',
        b'{"ask": "set_power_limit", "uuid": "GPU-a", "limit_w": -5}',
        b'{"ask": "set_clock_limit", "uuid": "GPU-a"}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with pytest.raises(AgentError, match="not a request"):
        decode_request(line)
