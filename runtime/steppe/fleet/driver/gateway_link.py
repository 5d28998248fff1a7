"""Sends the gateway what the books say, and takes what it asks for."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ray

from steppe.config import RunConfig
from steppe.fleet.cluster import error_line
from steppe.fleet.driver.access import settled
from steppe.fleet.driver.config_changer import ConfigChanger
from steppe.fleet.driver.usage_totals import UsageTotals
from steppe.gateway.server import ChangeResult, DriverNews, GatewayNews, RequestEnergy
from steppe.report.records import RequestRecord

_log = logging.getLogger(__name__)


class GatewayLink:
    """One call to the gateway in each poll; its answer is read in a later poll, without a wait.

    Attributes:
        usage: The usage so far.
    """

    def __init__(
        self, gateway: Any, usage: UsageTotals, changer: ConfigChanger, name: str = ""
    ) -> None:
        """Begin without news.

        Args:
            gateway: Ray handle of the gateway's actor.
            usage: The usage so far.
            changer: Gets the changes of the configuration that the gateway asks for.
            name: Name of the gateway; empty if there is only one.
        """
        self._name = name
        self._changer, self._results = changer, list[ChangeResult]()
        self._version = 0
        self._gateway = gateway
        self.usage = usage
        self._call: Any = None
        self._told_rows = 0
        self._unsent: list[RequestEnergy] = []

    def tell(
        self,
        closed: Sequence[RequestRecord],
        so_far: Iterable[RequestEnergy],
        results: Iterable[ChangeResult] = (),
        services: Mapping[str, str] | None = None,
    ) -> None:
        """Send what is new: usage of all requests, and the energy of those that it had.

        Args:
            closed: Requests whose energy is complete.
            so_far: The energy so far of others, whose answers wait for it.
            results: What became of changes of the configuration.
            services: Where the services of the run listen, by name.
        """
        self._results += results
        self.usage.add(closed)
        own = [request for request in closed if request.gateway == self._name]
        if own:
            self._gateway.settle.remote([settled(request) for request in own])
        self._unsent += [*map(_final, own), *(e for e in so_far if e.gateway == self._name)]
        if self._call is not None and not self._read():
            return  # it has not answered: the next call brings all
        news = DriverNews(
            tuple(self._unsent),
            self.usage.take_changed(),
            tuple(self._results),
            self._config(),
            services or {},
        )
        self._unsent, self._results, self._told_rows = [], [], len(self.usage)
        self._call = self._gateway.tell.remote(news)

    def _read(self) -> bool:
        """Read the answer to the last call; return whether there is one, or it failed."""
        done, _ = ray.wait([self._call], timeout=0)
        if not done:
            return False
        call, self._call = self._call, None
        try:
            news: GatewayNews = ray.get(call)
        except ray.exceptions.RayError as error:
            _log.warning("the gateway does not answer: %s", error_line(error))
            self.usage.change_all()
            return True
        if news.usage_rows < self._told_rows:
            self.usage.change_all()  # it has restarted
        self._version = news.config_version
        self._changer.add(news.changes)
        return True

    def _config(self) -> tuple[RunConfig, int] | None:
        """Return the configuration if the gateway has another one."""
        if self._version == self._changer.version:
            return None
        return self._changer.config, self._changer.version


def _final(request: RequestRecord) -> RequestEnergy:
    return RequestEnergy(
        id=request.id,
        energy_j=request.energy_j or 0.0,
        source=request.energy_source,
        boundary=request.boundary,
        is_final=True,
    )
