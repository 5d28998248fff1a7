"""What a driver knows of its run, so that another one can go on from there.

A state is taken at the end of a poll, when everything that the poll has returned is in the record.
Nodes, gateways and controller keep what comes after it until a driver acknowledges it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steppe.config import RunConfig
from steppe.fleet.driver.bookkeeper import WrittenBooks
from steppe.fleet.driver.gateways import GatewaysState
from steppe.fleet.driver.pending_actors import RunningNode
from steppe.fleet.driver.run_ledger import LedgerState
from steppe.fleet.messages import ControllerStatus, Placement
from steppe.frontier.pareto import Frontier


@dataclass(frozen=True, slots=True)
class ActorsState:
    """The node actors and replica actors, see `FleetActors`.

    Attributes:
        secret: The secret of the run.
        nodes: The open nodes, by Ray's id.
        machines: How many machines the run began with.
        placements: Where the replicas run, by name.
        unplaced: Replicas without GPUs.
        models: What each replica serves, by its name.
        kinds: The kinds of GPU; None before they are known.
        ready: Replicas whose engines started at the begin.
        holding: Actors that keep GPUs which must not be used.
        parked: Replicas of nodes that are off, by Ray's id of the node.
        others: Nodes with GPUs of another model.
    """

    secret: str
    nodes: Mapping[str, RunningNode]
    machines: int
    placements: Mapping[str, Placement]
    unplaced: tuple[str, ...]
    models: Mapping[str, str]
    kinds: tuple[str, ...] | None
    ready: frozenset[str]
    holding: tuple[Any, ...]
    parked: Mapping[str, list[str]]
    others: frozenset[str]


@dataclass(frozen=True, slots=True)
class ControlState:
    """The controller, see `ControllerLink`."""

    actor: Any
    status: ControllerStatus | None
    frontiers: Mapping[str, Frontier]
    models: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DriverState:
    """What a driver knows that another one could not find out.

    Attributes:
        changed: The configuration of now, and how many changes it contains.
        changes_done: The changes that were carried out or refused.
        url: Where the gateways listen.
        began_s: When the run began, s on the monotonic clock of this host.
        actors: The node actors and replica actors.
        gateways: The gateways.
        control: The controller.
        books: The books.
        ledger: What the ledger does not have of them yet; None without a ledger.
        idle_w: What idle replicas draw without a clock limit, by pool, W.
        quarantined: Replicas whose faults were logged.
        nodes_off: Nodes that are off or on their way there or back, by Ray's id, with address and
            whether they were on.
        log_ends: How far the logs of the engines are read.
    """

    changed: tuple[RunConfig, int]
    changes_done: frozenset[str]
    url: str
    began_s: float
    actors: ActorsState
    gateways: GatewaysState
    control: ControlState
    books: WrittenBooks
    ledger: LedgerState | None
    idle_w: Mapping[str, float]
    quarantined: frozenset[tuple[str, str]]
    nodes_off: Mapping[str, tuple[str, bool]]
    log_ends: Mapping[tuple[str, str], int]
