from __future__ import annotations

from typing import Any

import pytest
from tests.fixtures.dsx import COMMAND, NOW_S

from steppe.grid.dsx.breach import ACTIONS, Breach, BreachTerms, Over, ShedHint, step

TERMS = BreachTerms(actions=ACTIONS)
HINTS = [ShedHint("node-1", "node", "suspend"), ShedHint("gpu-3", "gpu", "power_cap", 300.0)]


def over(load_w: float) -> Over:
    return Over("main-a", load_w, 1000.0, COMMAND)


def alerts_of(*loads_w: float, terms: BreachTerms = TERMS) -> list[dict[str, Any] | None]:
    breach: Breach | None = None
    found = []
    for second, load_w in enumerate(loads_w):
        breach, content = step(breach, over(load_w), NOW_S + second, terms, HINTS)
        found.append(content)
    return found


@pytest.mark.parametrize(
    ("load_w", "severity"),
    [(1000, None), (1000.1, "warning"), (1200, "warning"), (1200.1, "critical")],
)
def test_the_severity_follows_how_far_the_draw_is_above(
    load_w: float, severity: str | None
) -> None:
    (alert,) = alerts_of(load_w)
    assert (alert and alert["severity"]) == severity


def test_a_breach_is_active_then_escalated_then_resolved() -> None:
    found = alerts_of(1100, 1150, 1300, 1100, 1400, 990)
    assert [each and each["status"] for each in found] == [
        "active", None, "escalated", None, None, "resolved",
    ]  # fmt: skip
    alerts = [each for each in found if each]
    assert len({each["breach"]["breach_id"] for each in alerts}) == 1
    assert [each["severity"] for each in alerts] == ["warning", "critical", "critical"]
    assert [len(each["infrastructure_actions"]) for each in alerts] == [0, 4, 0]
    assert ["shed_hints" in each for each in alerts] == [True, True, False]
    assert "resolved_at" in alerts[-1]["breach"]


def test_another_breach_has_another_id() -> None:
    found = [each for each in alerts_of(1100, 900, 1100) if each]
    assert found[0]["breach"]["breach_id"] != found[2]["breach"]["breach_id"]


def test_hints_come_in_their_order() -> None:
    (alert,) = alerts_of(1100)
    assert alert is not None
    assert [each["priority"] for each in alert["shed_hints"]] == [1, 2]
    assert "target_power" not in alert["shed_hints"][0]
    assert alert["shed_hints"][1]["target_power"] == {"value": 300.0, "unit": "watt"}


def test_below_the_threshold_there_is_no_breach() -> None:
    assert alerts_of(1049, terms=BreachTerms(threshold_share=0.05)) == [None]


def test_a_target_that_ends_resolves_its_breach() -> None:
    breach, _ = step(None, over(1100), NOW_S, TERMS)
    breach, alert = step(breach, None, NOW_S + 1, TERMS)
    assert breach is None
    assert alert is not None
    assert alert["status"] == "resolved"
