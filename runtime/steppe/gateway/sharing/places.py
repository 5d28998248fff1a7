"""Divides the places of replicas among gateways, so that together they never fill too many.

A gateway holds the places that it was given until it reports again, whether it fills them or not.
So what one gets is at most what the others do not hold, and no replica has more requests than its
limit while gateways come and go. What is free goes where requests wait, in proportion.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from steppe.gateway.sharing.messages import GatewayReport, ModelTotals, ReplicaPlaces


def _weight(report: GatewayReport, model: str, *, counts_deferrable: bool) -> int:
    """Return how much a gateway asks for places of a model: it counts as one without requests."""
    totals = report.models.get(model, ModelTotals())
    waiting = totals.waiting if counts_deferrable else totals.waiting - totals.deferrable
    return 1 + totals.outstanding + waiting


def divide(own: GatewayReport, others: Iterable[GatewayReport]) -> dict[str, int]:
    """Return the places that a gateway may fill at each of its replicas.

    Args:
        own: Its report.
        others: The last reports of the other gateways, with what each holds now.
    """
    reports = tuple(others)
    return {name: _places(name, replica, own, reports) for name, replica in own.replicas.items()}


def _places(
    name: str, replica: ReplicaPlaces, own: GatewayReport, others: tuple[GatewayReport, ...]
) -> int:
    there = [report.replicas[name] for report in others if name in report.replicas]
    held = sum(each.held for each in there)
    taken = replica.outstanding + sum(min(each.outstanding, each.held) for each in there)
    left = max(0, replica.limit - taken)
    model = replica.model
    firm = sum(_firm_waiting(report, model) for report in (own, *others))
    weight, *of_others = (
        _weight(report, model, counts_deferrable=not firm) for report in (own, *others)
    )
    share = left * weight / (weight + sum(of_others))
    totals = own.models.get(model, ModelTotals())
    waits = totals.waiting > (totals.deferrable if firm else 0)
    # One that waits gets at least a place; one that does not gives the last ones away.
    wanted = replica.outstanding + (ceil(share) if waits else int(share))
    return min(wanted, max(0, replica.limit - held))


def _firm_waiting(report: GatewayReport, model: str) -> int:
    totals = report.models.get(model, ModelTotals())
    return totals.waiting - totals.deferrable
