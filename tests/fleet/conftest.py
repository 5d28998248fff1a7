from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pynvml
import pytest
import ray

from steppe.emulator.build import build_library
from steppe.emulator.library import Emulator


@dataclass(eq=False)
class FakeCall:
    """What a remote method returns: an answer, sooner or later, or an error."""

    answer: Any
    ready: bool = True


@dataclass
class FakeActor:
    """An actor handle whose methods answer at once, by name; it remembers what it was asked."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    ready: bool = True
    calls: list[FakeCall] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return _Method(lambda *args: self._call(name, args))

    def _call(self, name: str, args: tuple[Any, ...]) -> FakeCall:
        self.asked.append((name, args))
        answer = self.answers.get(name)
        self.calls.append(FakeCall(answer, self.ready))
        return self.calls[-1]

    def names(self) -> list[str]:
        return [name for name, _ in self.asked]


@dataclass
class _Method:
    remote: Callable[..., FakeCall]


def _wait(calls: list[FakeCall], **_: Any) -> tuple[list[FakeCall], list[FakeCall]]:
    return [c for c in calls if c.ready], [c for c in calls if not c.ready]


def _get(call: FakeCall, **_: Any) -> Any:
    assert call.ready, "the test would wait for ever"
    if isinstance(call.answer, Exception):
        raise call.answer
    return call.answer


def _kill(actor: FakeActor, *, no_restart: bool) -> None:
    assert not no_restart, "nobody would start it again"
    actor.asked.append(("kill", ()))


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> type[FakeActor]:
    """Let `ray.wait`, `ray.get` and `ray.kill` understand fake actors and their calls."""
    monkeypatch.setattr(ray, "wait", _wait)
    monkeypatch.setattr(ray, "get", _get)
    monkeypatch.setattr(ray, "kill", _kill)
    return FakeActor


@pytest.fixture(scope="session")
def virtual_fleet() -> ModuleType:
    """Return the fleet in virtual time that lies beside this file."""
    path = Path(__file__).with_name("virtual_fleet.py")
    spec = importlib.util.spec_from_file_location("steppe_virtual_fleet", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Emulator]]:
    """Return a function that makes emulated GPUs whose time and privilege are the test's."""
    monkeypatch.setenv("STEPPE_EMULATED_PRIVILEGE", "1")

    def make(profile: str) -> Emulator:
        made = Emulator.attach(build_library(), tmp_path / "gpus", profile)
        made.use_virtual_clock(True)
        return made

    yield make
    with contextlib.suppress(pynvml.NVMLError):
        while True:
            pynvml.nvmlShutdown()
