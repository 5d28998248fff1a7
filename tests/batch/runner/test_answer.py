from __future__ import annotations

import orjson
import pytest

from steppe.batch.row import Claim, make_row
from steppe.batch.runner.answer import (
    Answered,
    GatewayRefusedError,
    RawAnswer,
    Refused,
    outcome_of,
)

CLAIM = Claim(make_row(0, "id-0", "/v1/completions", {"model": "m", "prompt": "a"}))


def refusal(status: int, code: str) -> RawAnswer:
    body = orjson.dumps({"error": {"message": "no", "code": code}})
    return RawAnswer(status, {}, body, "1", 0.0, 1.0)


def test_a_model_that_the_tenant_may_not_ask_for_is_the_error_of_its_row() -> None:
    outcome = outcome_of(CLAIM, refusal(403, "model_not_allowed"))
    assert isinstance(outcome, Answered)
    assert outcome.result.status == 403


def test_a_tenant_that_cannot_pay_is_no_fault_of_the_row() -> None:
    outcome = outcome_of(CLAIM, refusal(402, "insufficient_funds"))
    assert isinstance(outcome, Refused)
    assert (outcome.unpaid, outcome.reason) == ("insufficient_funds", "no")
    elsewhere = outcome_of(CLAIM, RawAnswer(402, {}, b"no credit", "1", 0.0, 1.0))
    assert isinstance(elsewhere, Refused)
    assert elsewhere.unpaid == "payment_required"


@pytest.mark.parametrize(("status", "code"), [(401, "invalid_api_key"), (403, "unknown_tenant")])
def test_a_key_that_is_refused_ends_the_runner(status: int, code: str) -> None:
    with pytest.raises(GatewayRefusedError):
        outcome_of(CLAIM, refusal(status, code))
