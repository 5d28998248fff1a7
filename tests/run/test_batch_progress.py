from __future__ import annotations

import io

from rich.console import Console

from steppe.batch.runner.progress import Finish, Rates, RunProgress
from steppe.run.batch_progress import batch_progress, finish_text, progress_text

BEGUN = RunProgress(1000, 200, 3, 5000, 0, 9000, 600.0, 12.0)


def progress(**more: object) -> RunProgress:
    values = {name: getattr(BEGUN, name) for name in RunProgress.__slots__}
    return RunProgress(**{**values, **more})


def test_the_line_has_rates_watts_surplus_and_the_end() -> None:
    found = progress(
        rates=Rates(2.5, 120.0, 60.0),
        surplus_share=0.874,
        finish=Finish(4000.0, 0.93, 65.0),
        outstanding=8,
        energy_source="emulated",
    )
    text = progress_text(found, 3600.0)
    assert text.startswith(
        "2.5 rows/s, 120 tokens/s, 2 tokens/J, 60.0 W (emulated), 87.4 % surplus"
    )
    assert text.endswith("(in 6:40 ± 1:05, in time with 93.0 %)")


def test_a_job_that_waits_says_why() -> None:
    text = progress_text(progress(reason="waits_for_surplus"), 0.0)
    assert "waits for surplus" in text
    assert text.endswith("end unknown")


def test_an_end_tomorrow_has_its_day() -> None:
    assert len(finish_text(Finish(86_400.0), 0.0)) > len(finish_text(Finish(600.0), 0.0))


def test_without_a_terminal_there_is_a_line_from_time_to_time() -> None:
    said, now_s = io.StringIO(), [0.0]
    console = Console(file=said, force_terminal=False, width=200)
    with batch_progress(console, lambda: now_s[0]) as show:
        for now_s[0], done in ((0.0, 0), (1.0, 100), (9.9, 200), (10.0, 300)):
            show(progress(done=done))
    lines = said.getvalue().splitlines()
    assert [line.split(" rows")[0] for line in lines if " rows" in line] == ["0/1,000", "300/1,000"]
