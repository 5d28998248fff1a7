"""What a driver returns to the run at each poll."""

from __future__ import annotations

from dataclasses import dataclass, field

from steppe.report.records import ConfigChangeRecord, RequestRecord, TickRecord


@dataclass(frozen=True, slots=True)
class RunUpdate:
    """What happened since the last call.

    Attributes:
        ticks: The ticks.
        requests: Requests whose energy is complete.
        logs: What the engines have written to their logs, by replica.
        config_changes: Changes of the configuration that were carried out.
    """

    ticks: list[TickRecord]
    requests: list[RequestRecord]
    logs: dict[str, bytes] = field(default_factory=dict)
    config_changes: list[ConfigChangeRecord] = field(default_factory=list)
