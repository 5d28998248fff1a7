"""The process that keeps two drivers of a run alive."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from steppe.run.driver_keeper import MOST_STARTS, REPEAT_S, WITHIN_S, DriverKeeper


@dataclass
class FakeDriver:
    pid: int
    code: int | None = None

    def poll(self) -> int | None:
        return self.code


@dataclass
class Scene:
    """A keeper, the drivers that it has started, and the signals that these got."""

    shared: Any = field(default_factory=lambda: SimpleNamespace(has_begun=False, has_ended=False))
    drivers: list[FakeDriver] = field(default_factory=list)
    sent: list[tuple[int, int]] = field(default_factory=list)
    now_s: float = 0.0

    def start(self) -> Any:
        self.drivers.append(FakeDriver(len(self.drivers) + 1))
        return self.drivers[-1]

    def keeper(self) -> DriverKeeper:
        keeper = DriverKeeper(self.shared, self.start, lambda: self.now_s)
        keeper.start()
        return keeper


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene()
    monkeypatch.setattr("os.kill", lambda pid, number: made.sent.append((pid, number)))
    return made


def test_the_standby_starts_once_the_first_driver_has_something_to_hand_over(scene: Scene) -> None:
    keeper = scene.keeper()
    keeper.look()
    assert len(scene.drivers) == 1
    scene.shared.has_begun = True
    keeper.look()
    keeper.look()
    assert len(scene.drivers) == 2


def test_a_driver_that_is_killed_has_a_successor(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.shared.has_begun = True
    keeper = scene.keeper()
    keeper.look()
    scene.drivers[0].code = -signal.SIGKILL
    keeper.look()
    assert len(scene.drivers) == 3
    assert caplog.messages == ["a driver was ended by SIGKILL"]


def test_drivers_that_die_again_and_again_have_no_more_successors_for_a_while(
    scene: Scene,
) -> None:
    scene.shared.has_begun = True
    keeper = scene.keeper()
    for _ in range(20):
        keeper.look()
        scene.drivers[-1].code = -signal.SIGKILL
    assert len(scene.drivers) == MOST_STARTS
    scene.now_s = WITHIN_S
    keeper.look()
    assert len(scene.drivers) == MOST_STARTS + 1


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([0, 0], 0),
        ([1, 0], 1),
        ([0, 2], 2),
        ([-signal.SIGKILL, 0], 0),
        ([-signal.SIGKILL, -signal.SIGKILL], 1),
    ],
)
def test_the_exit_code_is_that_of_the_driver_that_ended_the_run(
    scene: Scene, codes: list[int], expected: int
) -> None:
    scene.shared.has_begun = True
    keeper = scene.keeper()
    keeper.look()
    scene.shared.has_ended = True
    for driver, code in zip(scene.drivers, codes, strict=True):
        driver.code = code
    assert keeper.run() == expected
    assert len(scene.drivers) == 2


def test_a_first_driver_that_cannot_start_ends_the_run(scene: Scene) -> None:
    keeper = scene.keeper()
    scene.drivers[0].code = 2
    assert keeper.run() == 2
    assert len(scene.drivers) == 1


def test_a_signal_is_passed_on_until_the_run_ends(scene: Scene) -> None:
    scene.shared.has_begun = True
    keeper = scene.keeper()
    keeper.look()
    keeper.stop(signal.SIGTERM)
    for after_s in (0.0, REPEAT_S / 2, REPEAT_S):
        scene.now_s = after_s
        keeper.look()
    assert scene.sent == [(pid, signal.SIGTERM) for pid in (1, 2, 1, 2)]
    scene.shared.has_ended = True
    scene.now_s = 10 * REPEAT_S
    keeper.look()
    assert len(scene.sent) == 4, "the run ends: another signal could only interrupt that"
    scene.drivers[0].code = -signal.SIGKILL
    keeper.look()
    assert len(scene.drivers) == 2, "a run that ends needs no other driver"
