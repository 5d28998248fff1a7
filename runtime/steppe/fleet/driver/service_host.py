"""Starts, watches and stops a service of a run: a process that listens on HTTP for the gateway."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import ray

from steppe.errors import ReplicaError, UsageError
from steppe.fleet.cluster import call_result, error_line, local_node_id, on_node
from steppe.fleet.driver.new_actors import ActorLifetime
from steppe.fleet.service_actor import Service, ServiceActor

_log = logging.getLogger(__name__)

START_TIMEOUT_S, FIND_TIMEOUT_S = 60.0, 5.0
"""Longest waits for a service to listen: of the driver that starts it, and of the next one, s."""


class ServiceHost:
    """One service in an actor, which Ray restarts whenever its process dies.

    Attributes:
        name: Its name in the log and at the gateway.
        actor: Ray handle of the actor; None before `start` and after `stop`.
        url: Where it listens; empty while it starts.
    """

    def __init__(
        self,
        name: str,
        lifetime: ActorLifetime,
        make: Callable[..., Service],
        settings: Any,
        kind: type[ServiceActor] = ServiceActor,
    ) -> None:
        """Keep what to host.

        Args:
            name: Its name in the log and at the gateway.
            lifetime: Name of the run, and how long its actors live.
            make: Makes the service, as the class of the actor calls it; Ray imports it by its name.
            settings: The settings.
            kind: Class of the actor.
        """
        self._kind = kind
        self.name, self._lifetime = name, lifetime
        self._make, self._settings = make, settings
        self.actor: Any = None
        self.url = ""
        self._call: Any = None
        self._problem = ""

    def start(self) -> None:
        """Start the service, and wait until it listens.

        Raises:
            UsageError: It cannot run as it is configured.
            ReplicaError: Its actor does not start.
        """
        self.actor = self._create()
        self.url = call_result(self.actor.open.remote(), self.name, START_TIMEOUT_S)

    def find(self) -> None:
        """Find the service that an earlier driver has started.

        One that does not listen now is looked for later: the run goes on without it.
        """
        self.actor = self._create()
        try:
            self.url = call_result(self.actor.open.remote(), self.name, FIND_TIMEOUT_S)
        except (ReplicaError, UsageError) as error:
            _log.warning("%s", error)

    def _create(self) -> Any:
        """Return the actor; make it if there is none."""
        remote: Any = ray.remote(self._kind)
        options = {
            **self._lifetime.options(f"steppe-{self.name}-{self._lifetime.run_id}"),
            "get_if_exists": True,
            "max_concurrency": 100,
            "scheduling_strategy": on_node(local_node_id()),
        }
        return remote.options(**options).remote(self._make, self._settings)

    def look(self) -> None:
        """Note where the service listens now, and start it again in a new process.

        No call blocks: the answer is read at a later look.
        """
        if self.actor is None:
            return
        if self._call is not None:
            done, _ = ray.wait([self._call], timeout=0)
            if not done:
                return
            self._read(self._call)
        self._call = self.actor.open.remote()

    def stop(self, timeout_s: float) -> None:
        """Stop the service; end its process if that takes longer than `timeout_s`, s."""
        if self.actor is None:
            return
        ray.wait([self.actor.close.remote()], timeout=timeout_s)
        ray.kill(self.actor)
        self.actor, self._call, self.url = None, None, ""

    def _read(self, call: Any) -> None:
        problem = ""
        try:
            self.url = ray.get(call)
        except ray.exceptions.RayError as error:
            self.url, problem = "", error_line(error)
        if problem and problem != self._problem:
            _log.warning("%s does not answer: %s", self.name, problem)
        self._problem = problem
