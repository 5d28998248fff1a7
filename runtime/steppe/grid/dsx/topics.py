"""The topics of DSX Flex, and which type of message each carries."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.grid.dsx.envelope import SOURCE

LOAD_TARGET = "grid.loadtarget.set.v1"
POWER_STATE = "grid.powerstate.status.v1"
POWER_BREACH = "grid.powerbreach.alert.v1"
ENFORCEMENT = "grid.powerbreach.enforcement.v1"


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to publish.

    Attributes:
        topic: Its MQTT topic.
        payload: Its bytes.
        qos: MQTT quality of service: 1 for targets and status, 2 for breach alerts.
    """

    topic: str
    payload: bytes
    qos: int


def source_of(role: str, identifier: str) -> str:
    """Return the source of a participant.

    Raises:
        ValueError: The role or the identifier cannot be part of a source.
    """
    source = f"//grid/v1/{role}/{identifier}"
    if not SOURCE.fullmatch(source):
        raise ValueError(f"asked for //grid/v1/<role>/<identifier>, found {source!r}")
    return source


def load_target_topic(isv: str) -> str:
    """Return the topic of the load targets of an independent software vendor (ISV)."""
    return f"grid/v1/isv/{isv}/loadtarget/set"


def power_state_topic(agent: str) -> str:
    """Return the topic of the status of a site."""
    return f"grid/v1/dsx-flex-agent/{agent}/powerstate/status"


def power_breach_topic(agent: str) -> str:
    """Return the topic of the breach alerts of a site."""
    return f"grid/v1/dsx-flex-agent/{agent}/powerbreach"


def enforcement_topic(infra: str) -> str:
    """Return the topic in which an agent of the infrastructure says what it did about breaches."""
    return f"grid/v1/infra/{infra}/powerbreach/enforcement"
