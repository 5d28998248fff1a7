from __future__ import annotations

from pathlib import Path
from typing import Any

import model_choice
import model_choice_figure


def row(fleet: str, good: int, **more: Any) -> dict[str, Any]:
    models = {model_choice.LARGE: {"good": good}}
    found = {"day": "windy", "fleet": fleet, "good": good, "models": models, "series": None}
    return found | {"over_budget_share": 0.0} | more


ROWS = [
    row(model_choice.VARIANTS, 140),
    row("follow_budget, same replicas", 90),
    row("follow_budget, all GPUs", 100),
    row("reactive, all GPUs", 139, over_budget_share=0.3),
    row(model_choice.SMALL_ALONE, 200),
]


def test_the_gain_is_over_the_best_fleet_that_serves_the_large_model_alone() -> None:
    (target,) = model_choice.targets(ROWS)
    assert (target["value"], target["met"]) == (1.4, True)
    assert model_choice.best_without(ROWS, "windy")["fleet"] == "follow_budget, all GPUs"


def test_the_fleets_have_the_same_gpus() -> None:
    variants, same, everything = (fleet["replicas"] for fleet in model_choice.fleets_of())
    large, small = model_choice.LARGE, model_choice.SMALL
    each = model_choice.LARGE_GPUS
    assert variants[large] * each + variants[small] == everything[large] * each == model_choice.GPUS
    assert same[large] == variants[large]


def test_the_figure_shows_the_day_and_every_fleet(tmp_path: Path) -> None:
    series = {
        "t_s": [1.0, 2.0, 3.0],
        "budget_w": [900.0, 500.0, 900.0],
        "draw_w": {"large": [800.0, 300.0, 800.0], "small": [50.0, 150.0, 50.0]},
        "share": {"large": [1.0, 0.4, 1.0], "small": [0.0, 0.6, 0.0]},
    }
    rows = [ROWS[0] | {"series": series}, *ROWS[1:]]
    model_choice_figure.draw(rows, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
