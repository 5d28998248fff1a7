"""Gets the model on every node that serves it, once for all replicas there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray

from steppe.config import RunConfig
from steppe.fleet.cluster import LOCAL, Machine, on_node
from steppe.fleet.model_actor import ModelActor
from steppe.models.store import is_at_hand, is_model_folder

PROGRESS_TIMEOUT_S = 1.0
"""Longest wait for the progress of a download, s."""
NOTHING_TO_GET = ""
"""The folder of a model that its engine finds by itself."""


@dataclass(frozen=True, slots=True)
class _Download:
    """The download of one node; `call` returns the model's folder there."""

    machine: Machine
    actor: Any
    call: Any

    @property
    def is_done(self) -> bool:
        """Whether it has ended, well or not; does not wait."""
        done, _ = ray.wait([self.call], timeout=0)
        return bool(done)


class ModelDownloads:
    """The downloads of a run, at most one per node and all at the same time.

    A folder needs none: every node must have it. What the engine does not find after a download
    that failed, it gets by itself.
    """

    def __init__(self, config: RunConfig) -> None:
        """Keep what to get."""
        self._model = config.model.name
        is_here = config.ray.address == LOCAL and is_at_hand(self._model)
        self.is_needed = not (
            config.engine.kind == "synthetic" or is_here or is_model_folder(self._model)
        )
        """Whether nodes have to get the model."""
        self._downloads: dict[str, _Download] = {}

    def folder_on(self, machine: Machine) -> Any:
        """Return the folder of the model on a node, or the call that is going to return it."""
        if not self.is_needed:
            return NOTHING_TO_GET
        if machine.id not in self._downloads:
            remote: Any = ray.remote(ModelActor)
            options = {
                "num_cpus": 0,
                "max_concurrency": 2,
                "scheduling_strategy": on_node(machine.id),
            }
            actor = remote.options(**options).remote()
            self._downloads[machine.id] = _Download(machine, actor, actor.get.remote(self._model))
        return self._downloads[machine.id].call

    @property
    def has_any(self) -> bool:
        """Whether a node has the model, or none needs to get it, or every download has ended."""
        if not self._downloads:
            return True
        done = [download for download in self._downloads.values() if download.is_done]
        return any(map(_has_succeeded, done)) or len(done) == len(self._downloads)

    def line(self) -> str:
        """Return in one line how far the downloads are; empty when all have ended."""
        running = [download for download in self._downloads.values() if not download.is_done]
        if not running:
            return ""
        calls = {d.actor.progress.remote(): d for d in running}
        done, _ = ray.wait([*calls], num_returns=len(calls), timeout=PROGRESS_TIMEOUT_S)
        lines = sorted(f"{calls[call].machine.address}: {_line(call)}" for call in done)
        nodes = len(self._downloads)
        count = f"{nodes - len(running)} of {nodes} nodes have the model" if nodes > 1 else ""
        return "; ".join([*([count] if count else []), *lines])

    def end(self) -> None:
        """End the processes of the downloads."""
        for download in self._downloads.values():
            ray.kill(download.actor)


def _has_succeeded(download: _Download) -> bool:
    try:
        ray.get(download.call)
    except ray.exceptions.RayError:
        return False
    return True


def _line(call: Any) -> str:
    """Return the progress of one download; it may have ended meanwhile."""
    try:
        return str(ray.get(call)) or "begins"
    except ray.exceptions.RayError:
        return "failed"
