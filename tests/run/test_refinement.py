"""The frontier is measured on replicas that a serving fleet lends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from tests.fixtures.virtual_replica import VirtualReplica

from steppe.config import RunConfig
from steppe.errors import InfeasibleError
from steppe.frontier.fit import FrontierFit
from steppe.frontier.pareto import Frontier
from steppe.measure.sweep.frontier import fit_points, sound_mixed
from steppe.measure.sweep.point import PointTiming
from steppe.measure.sweep.result import PointResult
from steppe.roofline.lengths import RequestLengths
from steppe.roofline.point import OperatingPoint
from steppe.run.refinement import RESERVE, FrontierRefiner, Refined, SpareReplica

PROVISIONAL = Frontier.of(
    [OperatingPoint(600, 4, 40.0, 30.0), OperatingPoint(1200, 4, 60.0, 60.0)], 8.0, 12.0, "modelled"
)
SWEEP = {"clocks": 2, "batch_limits": [2, 4], "window_s": 2.0}


@dataclass
class FakeLender:
    """Lends one replica within some watts, and takes it back at given times."""

    replica: VirtualReplica
    spare_w: float = 1000.0
    ends_at_s: list[float] = field(default_factory=list)
    lent: str | None = None
    reserved_w: list[float] = field(default_factory=list)

    def lend(self, replica: str, reserve_w: float) -> bool:
        if reserve_w > self.spare_w:
            return False
        self.lent = replica
        self.reserved_w.append(reserve_w)
        return True

    def is_lent(self, replica: str) -> bool:
        if self.ends_at_s and self.replica.now_s >= self.ends_at_s[0]:
            self.ends_at_s.pop(0)
            self.lent = None
        return self.lent == replica

    def take_back(self, replica: str) -> None:
        self.lent = None


@pytest.fixture
def lender() -> FakeLender:
    return FakeLender(VirtualReplica())


def measured_frontier(refiner: FrontierRefiner) -> Refined | None:
    """Measure until the frontier is there; each round is one loan."""
    for _ in range(5):
        refiner.measure_once()
        if (refined := refiner.take()) is not None:
            return refined
    return None


def refiner_of(
    lender: FakeLender,
    on_end: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda _: None,
) -> FrontierRefiner:
    config = RunConfig.model_validate(
        {
            "model": {"name": "none"},
            "engine": {"kind": "synthetic", "max_batch_limit": 4},
            "device": {"kind": "emulated"},
            "power": {"supply": [{"kind": "constant", "watts": 100}]},
            "frontier": {"sweep": SWEEP},
        }
    )
    replica = lender.replica
    spare = SpareReplica(replica, lambda arrivals, number: replica.saturate(arrivals, number, 0))
    return FrontierRefiner(
        lender,
        lambda: [spare],
        config,
        PROVISIONAL,
        clocks_mhz=(600, 1200),
        source="emulated",
        timing=PointTiming(lambda: replica.now_s, replica.sleep),
        on_end=on_end,
        say=say,
    )


def test_a_lent_replica_is_measured_at_every_point(lender: FakeLender) -> None:
    refiner = refiner_of(lender)
    refined = measured_frontier(refiner)
    assert refined is not None
    assert refined.frontier.source == "emulated"
    assert refined.frontier.idle_w == pytest.approx(40.0)
    assert refined.frontier.asleep_w == pytest.approx(10.0)
    assert refined.provenance["points"] == 4
    assert set(lender.replica.settings) >= {(1200, 4), (1200, 2), (600, 4), (600, 2)}
    assert lender.lent is None, "the replica is given back"
    assert refiner.take() is None, "it is handed over once"


def test_a_measured_frontier_knows_what_a_step_costs_and_for_which_requests(
    lender: FakeLender,
) -> None:
    refined = measured_frontier(refiner_of(lender))
    assert refined is not None
    costs, lengths = refined.frontier.costs, refined.frontier.lengths
    assert costs is not None
    assert (costs.clocks_mhz, costs.tokens_per_step) == ((600, 1200), 2048)
    assert lengths == RequestLengths(128, 64)
    assert refined.provenance["step_time_error"] == pytest.approx(costs.time_error, abs=1e-4)
    assert len(lender.replica.word_seeds) == 3, "mixed, prefill alone and decode alone have a load"


def test_the_watts_of_a_point_are_reserved_before_it_is_set(lender: FakeLender) -> None:
    lender.spare_w = RESERVE * 30.0
    refiner = refiner_of(lender)
    refiner.measure_once()
    assert {clock for clock, _ in lender.replica.settings} == {600}, "1200 MHz needs more watts"
    assert max(lender.reserved_w) == RESERVE * 30.0
    lender.spare_w = RESERVE * 60.0
    refiner.measure_once()
    assert {clock for clock, _ in lender.replica.settings} == {600, 1200}


def test_a_loan_that_ends_early_is_continued_with_the_next(lender: FakeLender) -> None:
    lender.ends_at_s = [8.0, 20.0]
    refiner = refiner_of(lender)
    refiner.measure_once()
    assert lender.replica.now_s < 9.0, "the measurement ends with the loan"
    assert lender.lent is None
    refined = measured_frontier(refiner)
    assert refined is not None
    assert refined.provenance["points"] == 4


def test_a_replica_that_is_needed_while_it_sleeps_is_woken(lender: FakeLender) -> None:
    refiner = refiner_of(lender)
    refiner.measure_once()  # the points
    lender.ends_at_s = [lender.replica.now_s + 2.5]
    refiner.measure_once()  # the rest, cut short while the replica is frozen
    assert not lender.replica.frozen


def test_a_refinement_that_is_stopped_gives_its_replica_back(lender: FakeLender) -> None:
    refiner = refiner_of(lender)
    refiner.stop()
    refiner.measure_once()
    assert lender.lent is None
    assert refiner.take() is None


def test_a_refinement_in_its_thread_is_over_once_the_frontier_is_measured(
    lender: FakeLender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steppe.run.refinement.RETRY_S", 0.0)
    refiner = refiner_of(lender)
    refiner.start()
    refiner.wait()
    loans = len(lender.reserved_w)
    assert refiner.take() is not None
    assert len(lender.reserved_w) == loans, "nothing is measured again"
    refiner.stop()


def test_a_refinement_says_how_far_it_has_come_and_ends_its_load_generators(
    lender: FakeLender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steppe.run.refinement.RETRY_S", 0.0)
    said: list[str] = []
    ended: list[bool] = []
    refiner = refiner_of(lender, lambda: ended.append(True), said.append)
    refiner.start()
    refiner.wait()
    assert said == [
        "measuring 10 operating points on replicas without requests: 26 s of them",
        "measured 3 of 10 operating points, 18 s to go",
        "measured 6 of 10 operating points, 10 s to go",
        "measured 9 of 10 operating points, 3 s to go",
    ]
    assert ended == [True]


@dataclass
class TimedReplica(VirtualReplica):
    """Notes when its limits are set."""

    set_at_s: list[float] = field(default_factory=list)

    def set_point(self, clock_mhz: int, batch_limit: int) -> None:
        self.set_at_s.append(self.now_s)
        super().set_point(clock_mhz, batch_limit)


def test_a_point_is_set_only_after_the_next_plan_leaves_its_watts() -> None:
    replica = TimedReplica()
    refiner_of(FakeLender(replica)).measure_once()
    assert replica.set_at_s[0] >= 1.0, "one control period after the loan"


def test_points_too_far_from_their_fit_are_used_as_measured_and_the_log_says_so(
    lender: FakeLender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fit(points: Sequence[PointResult]) -> FrontierFit:
        return replace(fit_points(points), draw_error=0.14, draw_tail=0.31)

    monkeypatch.setattr("steppe.measure.sweep.frontier.fit_points", fit)
    refiner = refiner_of(lender)
    with pytest.raises(InfeasibleError, match="the host may have been busy"):
        measured_frontier(refiner)
    refined = refiner.take()
    assert refined is not None
    assert {p.clock_mhz for p in refined.frontier.candidates} <= {600, 1200}
    assert {p.batch_limit for p in refined.frontier.candidates} <= {2, 4}
    assert refined.frontier.costs is None
    (line,) = refined.provenance["refused"]
    assert line.endswith("found 14.0% and 31.0%")
    assert caplog.messages == [f"measured frontier: {line}"]


@pytest.mark.parametrize("refused", [1, 2])
def test_a_sweep_whose_fit_is_refused_is_repeated_once(
    lender: FakeLender, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    for name in ("AGAIN_S", "RETRY_S"):
        monkeypatch.setattr(f"steppe.run.refinement.{name}", 0.0)
    fits: list[FrontierFit] = []

    def fit(points: Sequence[PointResult]) -> FrontierFit:
        fits.append(fit_points(points))
        return replace(fits[-1], draw_error=0.14 if len(fits) <= refused else 0.0)

    monkeypatch.setattr("steppe.measure.sweep.frontier.fit_points", fit)
    refiner = refiner_of(lender)
    refiner.start()
    refiner.wait()
    refined = refiner.take()
    assert refined is not None
    assert len(fits) == 2
    assert ("refused" in refined.provenance) == (refused == 2)


def test_a_sweep_with_too_few_sound_points_is_measured_again(
    lender: FakeLender, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AGAIN_S", "RETRY_S"):
        monkeypatch.setattr(f"steppe.run.refinement.{name}", 0.0)
    found: list[int] = []

    def sound(points: Sequence[PointResult]) -> list[PointResult]:
        found.append(len(points))
        return sound_mixed(points) if len(found) > 1 else []

    monkeypatch.setattr("steppe.run.refinement.sound_mixed", sound)
    refiner = refiner_of(lender)
    refiner.start()
    refiner.wait()
    refined = refiner.take()
    assert refined is not None
    assert len(found) == 2
    assert refined.provenance["points"] == 4
