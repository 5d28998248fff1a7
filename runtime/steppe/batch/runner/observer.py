"""What a runner sees of its gateway and says of itself: status, declared work, timeline, rates."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import aiohttp
import orjson

from steppe.batch.job import Job
from steppe.batch.report.timeline import timeline_line
from steppe.batch.runner.progress import Finish, RateMeter, RunProgress, SurplusMeter
from steppe.batch.runner.settings import RunnerSettings
from steppe.batch.runner.tally import Tally
from steppe.batch.runner.work import SAYS_NOTHING, OpenWork, Wanted, WorkDeclaration

OFTEN_S, OFTEN_FOR_S, RARELY_S = 1.0, 600.0, 10.0
"""Time between two lines of a timeline: at first, how long that is so, and later, s."""
_TIMEOUT = aiohttp.ClientTimeout(total=5.0)


class Observer:
    """Reads the state of the gateway, and keeps the timeline of a job.

    Attributes:
        work: The job's declaration at the gateway.
        wanted: What the gateway takes of it.
        rates: What the runner does per second.
        unpaid: Why the tenant cannot pay for rows now; empty if it can.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        settings: RunnerSettings,
        job: Job,
        now_s: Callable[[], float] = time.monotonic,
        epoch_s: Callable[[], float] = time.time,
    ) -> None:
        """Prepare.

        Args:
            session: An open session.
            settings: Where the gateway is.
            job: The job.
            now_s: Reads the monotonic clock, s.
            epoch_s: Reads the time, s since the Unix epoch.
        """
        self._session, self._settings, self._job = session, settings, job
        self._now_s, self._epoch_s = now_s, epoch_s
        address = settings.address(f"/steppe/v1/work/{job.id}")
        self.work = WorkDeclaration(session, address, dict(settings.headers))
        self.wanted: Wanted = SAYS_NOTHING
        self.rates = RateMeter(now_s())
        self._surplus, self.unpaid = SurplusMeter(), ""
        self._status: Mapping[str, Any] | None = None
        self._begun_s = self._looked_s = now_s()
        self._next_line_s = -1.0

    async def look(self) -> None:
        """Read the status of the gateway; None is known of one that does not answer."""
        address = self._settings.address("/steppe/v1/status")
        headers = dict(self._settings.headers)
        try:
            async with self._session.get(address, headers=headers, timeout=_TIMEOUT) as response:
                found = orjson.loads(await response.read())
                is_status = response.status == 200 and isinstance(found, dict)
        except (TimeoutError, aiohttp.ClientError, OSError, orjson.JSONDecodeError):
            is_status = False
        self._status = found if is_status else None
        now_s = self._now_s()
        if self._status is not None:
            power = self._status.get("power", {})
            self._surplus.add(power, self.rates.rates(now_s).draw_w, now_s - self._looked_s)
        self._looked_s = now_s

    async def declare(self, tally: Tally, outstanding: int) -> Wanted:
        """Declare what is left of the job, and return what the gateway takes of it."""
        prompt_tokens, output_tokens = tally.tokens_left()
        work = OpenWork(
            model=self._job.model,
            rows=tally.left,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            when=str(self._job.when),
            deadline_epoch_s=self._job.deadline_epoch_s,
            outstanding=outstanding,
        )
        self.wanted = await self.work.declare(work) or self.wanted
        return self.wanted

    def progress(self, tally: Tally, outstanding: int) -> RunProgress:
        """Return how far the job is."""
        totals, wanted, now_s = tally.totals, self.wanted, self._now_s()
        return RunProgress(
            total=tally.counts.total,
            done=tally.counts.finished,
            failed=tally.counts.failed,
            prompt_tokens=totals.prompt_tokens,
            cached_tokens=totals.cached_tokens,
            output_tokens=totals.output_tokens,
            energy_j=totals.energy_j,
            wasted_j=totals.wasted_j,
            energy_source=tally.energy_source,
            outstanding=outstanding,
            allowed=wanted.outstanding,
            reason=self.unpaid or wanted.reason,
            gateway_tps=wanted.tokens_per_s,
            surplus_share=self._surplus.share,
            rates=self.rates.rates(now_s),
            finish=self._finish(now_s, tally.left),
        )

    def write_line(self, tally: Tally, outstanding: int, *, now: bool = False) -> None:
        """Write a line of the timeline if one is due, or `now`; a full disk loses it."""
        now_s, path = self._now_s(), self._settings.timeline
        if path is None or (now_s < self._next_line_s and not now):
            return
        is_young = now_s - self._begun_s < OFTEN_FOR_S
        self._next_line_s = now_s + (0.9 * OFTEN_S if is_young else RARELY_S)
        reason = self.unpaid or self.wanted.reason
        progress = tally.progress(outstanding, self.wanted.outstanding, reason)
        line = timeline_line(
            self._status, self._job.model, progress, self._epoch_s(), self._settings.owner
        )
        with suppress(OSError), path.open("ab") as file:
            file.write(line)

    def _finish(self, now_s: float, left: int) -> Finish:
        """Return the end that the gateway expects, or else that of the rates so far."""
        own, wanted = self.rates.finish(now_s, self._epoch_s(), left), self.wanted
        if wanted.finish_epoch_s is None or not left:
            return replace(own, sure=wanted.sure)
        return Finish(wanted.finish_epoch_s, wanted.sure, own.spread_s)
