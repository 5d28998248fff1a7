"""Controllers that tick when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from tests.fixtures.ray_actors import FakeActor
from tests.fleet.controller.stage import Stage

from steppe.config import RunConfig
from steppe.fleet.controller.controller import Controller


@pytest.fixture
def set_stage(fake_ray: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Stage]]:
    """Return a function that sets a stage with a supply; what it began ends with the test."""
    made: list[Stage] = []

    def set_it(
        power: dict[str, Any], *, grid: dict[str, Any] | None = None, **control: Any
    ) -> Stage:
        config = RunConfig.model_validate(
            {
                "model": {"name": "none"},
                "device": {"kind": "emulated"},
                "power": power,
                "frontier": {"file": "none"},
                "control": {"period_s": 60.0, **control},
                "grid": grid,
            }
        )

        def make(gateway: FakeActor) -> Controller:
            monkeypatch.setattr(ray, "get_actor", lambda _: gateway)
            return Controller(config, ("gateway",))

        made.append(Stage(make))
        return made[-1]

    yield set_it
    for stage in made:
        stage.controller.end()
