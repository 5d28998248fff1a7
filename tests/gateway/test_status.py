"""The counts of several gateways together."""

from __future__ import annotations

from dataclasses import replace

from steppe.control.batch_work import BatchWork
from steppe.gateway.status import GatewayStatus, all_counts


def test_declared_work_of_all_gateways_counts_once() -> None:
    job = BatchWork("j", "t", "m", 90, 0, 4500)
    other = replace(job, id="k")
    first = GatewayStatus(0, {}, 0, 0, 0, 0, 0, work=(job, other))
    second = replace(first, work=(replace(job, rows=80, output_tokens=4000),))
    found = {work.id: work.rows for work in all_counts([first, second]).work}
    assert found == {"j": 80, "k": 90}
