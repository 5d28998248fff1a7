from __future__ import annotations

from dataclasses import replace

from tests.report.test_summary import request, totals

from steppe.report.latency import within_slo
from steppe.report.records import Slo
from steppe.report.summary import summarise

SLO = Slo(ttft_s=2.0, tpot_s=0.2)


def test_what_other_sites_served_and_sent_has_sums_of_its_own() -> None:
    here = replace(request("stop", 10, 20), energy_j=30.0)
    sent = replace(request("stop", 100, 200), site="shanghai", energy_j=0.0)
    part = replace(request("failed", 1, 2), site="shanghai", energy_j=5.0)
    received = replace(request("stop", 3, 4), tenant="site:guizhou", energy_j=6.0)
    summary = summarise([], [here, sent, part, received], totals(), SLO)
    assert summary["sites"] == {
        "sent": {
            "shanghai": {
                "requests": 2,
                "completed": 1,
                "good": 1,
                "output_tokens": 202,
                "energy_j": 5.0,
            }
        },
        "received": {
            "guizhou": {
                "requests": 1,
                "completed": 1,
                "good": 1,
                "output_tokens": 4,
                "energy_j": 6.0,
            }
        },
    }
    assert (summary["prompt_tokens"], summary["output_tokens"]) == (13, 24)
    assert summary["output_tokens_per_joule"] == 0.24
    assert summary["requests"]["completed"] == 3


def test_a_refused_call_of_another_site_is_not_judged_here() -> None:
    shed = request("shed", 1, 0)
    assert within_slo(shed, SLO) is False
    assert within_slo(replace(shed, tenant="site:guizhou"), SLO) is None
