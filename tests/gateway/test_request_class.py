"""Engines learn which requests are rows of a batch, whatever a client says itself."""

from __future__ import annotations

import pytest
from tests.gateway.site import Site

from steppe.engine.request_class import PRIORITY_HEADER


@pytest.mark.parametrize(
    ("priority", "expected"), [("interactive", "0"), ("standard", "0"), ("deferrable", "1000")]
)
async def test_an_engine_gets_the_priority_of_the_class(
    site: Site, priority: str, expected: str
) -> None:
    replica = await site.awake_replica()
    await site.post(x_steppe_priority=priority, X_Vllm_Priority="-5")
    (received,) = replica.received
    assert received.headers.getall(PRIORITY_HEADER) == [expected]
