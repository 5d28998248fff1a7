"""What the page shows of a recorded run: its sums, its charts and its tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from steppe.control.shortage_forecast import WORDS, Level
from steppe.page.amounts import NONE, joules, joules_per_token, number, span, watts
from steppe.page.history import History
from steppe.page.layout import TableSpec
from steppe.page.view import Rows, tenant_rows

Json = Mapping[str, Any]
_SPAN_S = 3600.0
_ALL_DONE = ("stop", "length", "repetition", "tool_calls", "content_filter")
"""How a request ends that has completed."""

REPLICAS = TableSpec(
    "replicas",
    "Replicas",
    ("Replica", "Pool", "#Time awake", "#Energy", "#Output tokens", "#Energy per token"),
    empty="The record has none.",
    is_energy=True,
)
MODELS = TableSpec(
    "models",
    "Models",
    ("Model", "#Requests", "#Completed", "#Within the SLO", "#Output tokens", "#Energy"),
    is_energy=True,
)
TENANTS = TableSpec(
    "tenants",
    "Tenants",
    (
        "Tenant",
        "#Requests",
        "#Completed",
        "#Prompt tokens",
        "#Output tokens",
        "#Energy",
        "#Energy per token",
    ),
    empty="No request has ended.",
    is_energy=True,
)
SHORTAGES = TableSpec(
    "shortages", "Shortages that came", ("Of", "#For", "#Most"), empty="None came.", is_energy=True
)
EVENTS = TableSpec(
    "events",
    "Grid events",
    ("Event", "#Begins", "#Ends", "#Baseline", "#Allowed", "#Delivered", "Verdict", "Reason"),
    is_energy=True,
)
CHANGES = TableSpec("changes", "Changes", ("#At", "Section", "By"))
RECORD_TABLES = (SHORTAGES, MODELS, REPLICAS, TENANTS, EVENTS, CHANGES)


@dataclass(slots=True)
class _Replica:
    """Sums of one replica."""

    pool: str
    awake_s: float = 0.0
    energy_j: float = 0.0
    output_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A run as its page shows it.

    Attributes:
        name: Name of its folder.
        summary: Its summary; empty while it has not ended.
        columns: The data of its charts.
        tables: The rows of its tables, by their key.
        source: What its joules are.
        note: What is to be known of it; empty if nothing is.
    """

    name: str
    summary: Json
    columns: Json
    tables: Mapping[str, Rows]
    source: str
    note: str = ""


@dataclass(slots=True)
class RecordReader:
    """Takes the lines of a record, one at a time, so that a long one needs little memory."""

    _history: History = field(default_factory=lambda: History(_SPAN_S))
    _replicas: dict[str, _Replica] = field(default_factory=dict)
    _usage: dict[str, dict[str, Any]] = field(default_factory=dict)
    _changes: Rows = field(default_factory=list)

    def add_tick(self, tick: Json) -> None:
        """Take a line of `record.jsonl`."""
        point = self._history.add(tick, tick["replicas"])
        if point is None:
            return
        for each in tick["replicas"]:
            own = self._replicas.setdefault(each["id"], _Replica(each.get("pool", "")))
            own.awake_s += point.width_s if each["state"] == "awake" else 0.0
            own.energy_j += each["draw_w"] * point.width_s
            own.output_tokens += each["output_tps"] * point.width_s

    def add_request(self, row: Json) -> None:
        """Take a line of `requests.jsonl`."""
        names = ("requests", "completed", "prompt_tokens", "output_tokens", "energy_j")
        fresh = {"tenant": row["tenant"], **dict.fromkeys(names, 0)}
        own = self._usage.setdefault(row["tenant"], fresh)
        own["requests"] += 1
        own["completed"] += row["finish"] in _ALL_DONE
        own["prompt_tokens"] += row["prompt_tokens"]
        own["output_tokens"] += row["output_tokens"]
        own["energy_j"] += row["energy_j"] or 0.0

    def add_change(self, change: Json) -> None:
        """Take a line of `config_changes.jsonl`."""
        self._changes.append([span(change["t_s"]), change["section"], change["by"]])

    def shown(self, name: str, summary: Json) -> ShownRun:
        """Return the run.

        Args:
            name: Name of its folder.
            summary: What `summary.json` holds; empty if there is none.
        """
        found = summary or self._sums()
        tables = {
            SHORTAGES.key: _shortages(found.get("shortages", {})),
            MODELS.key: _models(found.get("models", {})),
            REPLICAS.key: _replica_rows(self._replicas),
            TENANTS.key: tenant_rows(self._usage.values()),
            EVENTS.key: _events(found.get("grid_events", ())),
            CHANGES.key: self._changes,
        }
        note = "" if summary else "This run has no summary: it goes on, or it was broken off."
        if found.get("broke_off"):
            note = f"This run broke off: {found['broke_off']}"
        source = found.get("energy_source", "of an unknown source")
        return ShownRun(name, found, self._history.whole(), tables, source, note)

    def _sums(self) -> Json:
        """Return what the ticks alone say of a run without a summary."""
        totals = self._history.totals
        each_j = totals.joules_per_token
        return {
            "duration_s": totals.span_s,
            "energy_j": totals.energy_j,
            "output_tokens": totals.output_tokens,
            "energy_per_output_token": each_j,
            "output_tokens_per_joule": 1 / each_j if each_j else None,
        }


def _replica_rows(replicas: Mapping[str, _Replica]) -> Rows:
    return [
        [
            name,
            own.pool or NONE,
            span(own.awake_s),
            joules(own.energy_j),
            number(round(own.output_tokens)),
            joules_per_token(own.energy_j / own.output_tokens if own.output_tokens else None),
        ]
        for name, own in sorted(replicas.items())
    ]


def _models(models: Mapping[str, Json]) -> Rows:
    counts = ("requests", "completed", "good", "output_tokens")
    return [
        [name, *(number(own[count]) for count in counts), joules(own["energy_j"])]
        for name, own in models.items()
    ]


def _shortages(shortages: Mapping[Level, Json]) -> Rows:
    return [[WORDS[of], span(own["time_s"]), watts(own["most_w"])] for of, own in shortages.items()]


def _events(events: Iterable[Json]) -> Rows:
    return [
        [
            each["event"],
            span(each["starts_s"]),
            span(each["ends_s"]),
            watts(each["baseline_w"]),
            watts(each["hold_w"]),
            joules(each["delivered_j"]),
            _verdict(each["verdict"]),
            each["reason"],
        ]
        for each in events
    ]


def _verdict(verdict: str) -> Mapping[str, str]:
    states = {"complied": "good", "exceeded": "bad"}
    return {"text": verdict, "state": states.get(verdict, "rest")}
