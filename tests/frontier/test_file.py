from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from steppe.errors import ConfigError
from steppe.frontier.file import (
    FrontierSubject,
    read_frontier,
    read_frontier_and_subject,
    write_frontier,
)
from steppe.frontier.pareto import Frontier
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.point import OperatingPoint
from steppe.roofline.step_costs import ClockCosts, StepCosts, StepTerms

HEAD = "source: measured\nasleep_w: 1\nidle_w: 1\n"
POINT = "points: [{{clock_mhz: {}, batch_limit: {}, output_tps: 1, draw_w: {}}}]\n"
REST, GOOD = "source: measured\nasleep_w: {}\nidle_w: {}\n", POINT.format(600, 8, 70)


def test_a_written_frontier_reads_back(tmp_path: Path) -> None:
    frontier = Frontier.of([OperatingPoint(600, 8, 100.0, 30.0, 0.05)], 10.0, 12.0, "emulated")
    write_frontier(frontier, tmp_path / "frontier.yaml")
    assert read_frontier(tmp_path / "frontier.yaml") == frontier


def test_a_frontier_without_clock_limits_is_read_back(tmp_path: Path) -> None:
    points = [OperatingPoint(0, batch, 100.0 * batch, 30.0 * batch, 0.05) for batch in (1, 4)]
    frontier = Frontier.of(points, 10.0, 12.0, "measured")
    write_frontier(frontier, tmp_path / "frontier.yaml")
    assert read_frontier(tmp_path / "frontier.yaml") == frontier
    clocks_mhz = [point.clock_mhz for point in frontier.unlimited_at(1980).points]
    assert clocks_mhz == [1980, 1980]


def test_a_frontier_file_may_name_its_model_and_gpus(tmp_path: Path) -> None:
    path = tmp_path / "frontier.yaml"
    frontier = Frontier.of([OperatingPoint(600, 8, 100.0, 30.0, 0.05)], 10.0, 12.0, "emulated")
    subject = FrontierSubject("llama-3.1-8b", "NVIDIA H100 80GB HBM3", 2)
    write_frontier(frontier, path, subject)
    assert read_frontier_and_subject(path) == (frontier, subject)
    write_frontier(frontier, path)
    assert read_frontier_and_subject(path) == (frontier, FrontierSubject(None, None))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("source: measured\nasleep_w: 1\nidle_w: 1\n", "points: missing"),
        ("", "asked for a mapping, found NoneType"),
        ("- 1\n", "asked for a mapping, found list"),
        (
            "source: measured\nasleep_w: 1\nidle_w: 1\npoints: [{colour: 1}]\n",
            "points.0.colour: unknown key",
        ),
        (HEAD + "points: []\n", "points: asked for a list of at least 1, found an empty"),
        (HEAD + POINT.format(600, 8, '"70"'), "points.0.draw_w: asked for a number, found '70'"),
        (HEAD + POINT.format(600, 0, 70), "batch_limit: asked for a number of at least 1, found 0"),
        (HEAD + POINT.format(600, 8.5, 70), "batch_limit: asked for a whole number, found 8.5"),
        (HEAD + POINT.format(600, "true", 70), "batch_limit: asked for a whole number, found True"),
        (HEAD + POINT.format(-1, 8, 70), "clock_mhz: asked for a number of at least 0, found -1"),
        (HEAD + POINT.format(600, 8, ".nan"), "draw_w: asked for a finite number, found nan"),
        (REST.format(".nan", 9) + GOOD, "asleep_w: asked for a finite number, found nan"),
        (REST.format(-50, 9) + GOOD, "asleep_w: asked for a number of at least 0, found -50"),
        (REST.format(9, ".inf") + GOOD, "idle_w: asked for a finite number, found inf"),
        (HEAD + "modle: x\n" + GOOD, "modle: unknown key, did you mean model?"),
        (HEAD + "idle_w: 2\n" + GOOD, "idle_w: given in line 3 and again in line 4"),
        (HEAD + POINT.format(600, "010", 70), "line 4: asked for a decimal number, found 010"),
        (
            HEAD.replace("measured", "") + GOOD,
            "source: asked for 'measured', 'emulated' or 'modelled', found nothing",
        ),
        (
            HEAD.replace("measured", "Modelled") + GOOD,
            "source: asked for 'measured', 'emulated' or 'modelled', found 'Modelled'",
        ),
        (HEAD.replace("measured", "7") + GOOD, "source: asked for 'measured', .*, found 7"),
        (HEAD + "points: [1]\n", "points.0: asked for a mapping, found 1"),
        (REST.format(9, 700) + GOOD, "idle_w: asked for at most the 70 W of the .*, found 700"),
        (REST.format(70, 70) + GOOD, "asleep_w: asked for less than the 70 W of .*, found 70"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "frontier.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_frontier(path)


def test_a_batch_limit_that_the_engines_do_not_take_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "frontier.yaml"
    path.write_text(HEAD + POINT.format(600, 64, 70))
    assert read_frontier(path, 64).full.batch_limit == 64
    with pytest.raises(ConfigError, match=r"batch limit of 64, found engine.max_batch_limit: 16"):
        read_frontier(path, 16)


def test_two_points_of_one_setting_contradict_each_other(tmp_path: Path) -> None:
    path = tmp_path / "frontier.yaml"
    point = "  - {{clock_mhz: 600, batch_limit: 8, output_tps: {}, draw_w: {}}}\n"
    path.write_text(HEAD + "points:\n" + point.format(9, 50) + point.format(1, 30))
    said = "points.1: asked for a setting once, found 600 MHz and batch limit 8 in points.0 too"
    with pytest.raises(ConfigError, match=said):
        read_frontier(path)


def test_a_number_may_have_an_exponent_without_a_point(tmp_path: Path) -> None:
    path = tmp_path / "frontier.yaml"
    path.write_text(REST.format("5e1", 60) + GOOD)
    assert read_frontier(path).asleep_w == 50.0


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        read_frontier(tmp_path / "nowhere.yaml")


COSTS = StepCosts(
    (
        ClockCosts(
            600, StepTerms(0.02, 1e-3, 3e-5, 2e-5, 1e-9), StepTerms(4.0, 0.1, 0.02, 0.01, 0)
        ),
        ClockCosts(900, StepTerms(0.01, 0.0, 1 / 3e5, 7e-6, 0), StepTerms(5.0, 0.2, 0.03, 0.02, 0)),
    ),
    tokens_per_step=2048,
    kv_tokens=400_000,
    time_error=0.0123,
    energy_error=0.034,
)
COSTS_HEAD = "costs:\n  tokens_per_step: {}\n  clocks:\n"
TERMS = "{{step: {}, prefill: 0, decode: 0, prompt: 0, context: 0}}"
CLOCK = "  - {{clock_mhz: {}, time: " + TERMS + ", energy: " + TERMS + "}}\n"


@pytest.mark.parametrize(
    "costs",
    [COSTS, replace(COSTS, kv_tokens=None), replace(COSTS, tokens_per_step=1 << 60), None],
)
@pytest.mark.parametrize("lengths", [RequestLengths(1155.25, 211.5, 40.0), None])
def test_the_costs_of_a_step_and_the_mean_request_read_back(
    tmp_path: Path, costs: StepCosts | None, lengths: RequestLengths | None
) -> None:
    frontier = Frontier.of([OperatingPoint(600, 8, 100.0, 30.0, 0.05)], 10.0, 12.0, "measured")
    frontier = frontier.with_costs(costs, lengths)
    write_frontier(frontier, tmp_path / "frontier.yaml")
    assert read_frontier(tmp_path / "frontier.yaml") == frontier


def test_a_file_without_costs_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "frontier.yaml"
    path.write_text(HEAD + GOOD)
    assert read_frontier(path).costs is None
    assert read_frontier(path).lengths is None


def test_costs_without_a_clock_limit_are_those_of_the_highest(tmp_path: Path) -> None:
    free = replace(COSTS, clocks=(replace(COSTS.clocks[0], clock_mhz=0),))
    frontier = Frontier.of([OperatingPoint(0, 8, 100.0, 30.0, 0.05)], 10.0, 12.0, "measured")
    highest = frontier.with_costs(free, None).unlimited_at(1980)
    assert highest.costs is not None
    assert highest.costs.clocks_mhz == (1980,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "costs: {tokens_per_step: 64, clocks: []}\n",
            "costs.clocks: asked for a list of at least 1",
        ),
        (COSTS_HEAD.format(0) + CLOCK.format(600, 1, 1), "tokens_per_step: asked for a number of"),
        (COSTS_HEAD.format(64) + CLOCK.format(600, -1, 1), "time.step: asked for a number of at"),
        (
            COSTS_HEAD.format(64) + CLOCK.format(900, 1, 1) + CLOCK.format(600, 1, 1),
            "asked for rising clocks, found 600 MHz after 900 MHz",
        ),
        (
            COSTS_HEAD.format(64) + CLOCK.format(600, 1, 0),
            "asked for a step that costs something, found 0 at 600 MHz",
        ),
        (COSTS_HEAD.format(64) + CLOCK.format(600, ".inf", 1), "time.step: asked for a finite"),
        ("costs: {tokens_per_step: 64, clocks: [], colour: 1}\n", "costs.colour: unknown key"),
        ("lengths: {prompt_tokens: 9, output_tokens: 0}\n", "output_tokens: asked for a number of"),
        ("lengths: {prompt_tokens: 9}\n", "lengths.output_tokens: missing"),
    ],
)
def test_wrong_costs_and_lengths_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "frontier.yaml"
    path.write_text(HEAD + GOOD + text)
    with pytest.raises(ConfigError) as caught:
        read_frontier(path)
    assert said in str(caught.value)
