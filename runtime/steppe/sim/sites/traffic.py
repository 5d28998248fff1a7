"""The requests of all clients on their ways: to a gateway, to another site, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from steppe.load.arrivals import Arrival
from steppe.report.sites_records import SiteCall
from steppe.sim.batch_jobs import TENANT
from steppe.sim.events import EventQueue
from steppe.sim.request import Request
from steppe.sim.sites.call import ClientCall
from steppe.sim.sites.faults import Faults
from steppe.sim.sites.site import SimulatedSite
from steppe.sites.routing import MOST_TRIES

CONNECT_S = 1.0
"""A connection that is not answered is given up after so long, s; assumed."""
FULL, GONE = 503, None
"""HTTP status of a site that refuses, and none of one that does not answer."""


class Traffic:
    """All requests that have not ended.

    Attributes:
        sites: The sites by name.
        open: The requests by number.
    """

    def __init__(
        self,
        queue: EventQueue,
        faults: Faults,
        rtt_s: Mapping[tuple[str, str], float],
        max_wait_s: float,
        note: Callable[[SiteCall], None],
    ) -> None:
        """Begin without requests.

        Args:
            queue: Virtual time.
            faults: What fails.
            rtt_s: Round trips by origin and target, s.
            max_wait_s: Longest wait of a request of another site, s.
            note: Takes each request that has ended.
        """
        self.sites: dict[str, SimulatedSite] = {}
        self.open: dict[int, ClientCall] = {}
        self._queue, self._faults, self._rtt_s = queue, faults, rtt_s
        self._max_wait_s, self._note = max_wait_s, note
        self._parts: dict[int, ClientCall] = {}
        self._last: dict[str, tuple[str, int]] = {}
        self._number = self._pushed = 0
        self._is_pushing = False

    def next_number(self) -> int:
        """Return the number of the next request."""
        self._number += 1
        return self._number

    def offer(self, home: str, number: int, arrival: Arrival) -> None:
        """Take a request that a client of a site sends."""
        site = self.sites[home]
        asked = site.asked_of(arrival)
        call = ClientCall(number, home, arrival, asked, is_row=arrival.tenant == TENANT)
        self.open[number] = call
        self._reach(call)

    def end(self, site: str, request: Request) -> None:
        """Take a request that a fleet has ended, with its energy."""
        call = self._parts.pop(request.number, None)
        self.sites[site].note_end(request)
        if call is None:
            return
        call.energy_j += request.energy_j
        if call.is_over or call.part != request.number:
            return  # lost on the way, and served elsewhere since
        match request.finish:
            case "length":
                self._complete(call, request)
            case "failed":
                call.take_first(request, self._way_s(call))
                self._lose(call, request.output_tokens)
            case "rejected" | "shed" if call.is_away:
                self._turn_back(call)
            case finish:
                self._close(call, finish, self._queue.now_s, request.output_tokens)

    def push_rows(self, site: SimulatedSite) -> None:
        """Send rows of batch jobs to other sites, as far as leases allow."""
        for _ in range(site.rows_to_send()):
            before = self._pushed
            self._is_pushing = True
            site.run.jobs.send_further(1)
            self._is_pushing = False
            if self._pushed == before:
                return
            site.note_row_sent()

    def row_ended(self, request: Request) -> None:
        """Take a deferrable request at its end, before its energy is known."""
        call = self._parts.get(request.number)
        if call is not None and call.is_row and request.finish == "length":
            self._end_row(call, "length")

    def lose_site(self, name: str) -> None:
        """Break everything that a site has, or that goes through its gateway."""
        now_s, site = self._queue.now_s, self.sites[name]
        site.is_down = True
        site.run.stop()
        waiting = site.fleet.lose_all()
        for request in waiting:
            call = self._parts.pop(request.number, None)
            if call is not None and not call.is_over and call.part == request.number:
                self._lose(call, 0)
        for call in [*self.open.values()]:
            if call.is_over or call.gateway != name:
                continue
            if call.has_begun(now_s):
                self._close(call, "failed", now_s, 0)
            elif call.part and call.site != name:
                call.part = 0
                self._reach(call)

    def cut(self, one: str, other: str) -> None:
        """Break the streams between two sites."""
        now_s = self._queue.now_s
        for call in [*self.open.values()]:
            if call.is_over or not call.part or {call.gateway, call.site} != {one, other}:
                continue
            self._lose(call, self._given(call, now_s))

    def close(self) -> None:
        """Write down what has not ended: the run is over."""
        for call in [*self.open.values()]:
            self._close(call, "cancelled", self._queue.now_s, 0)

    def _reach(self, call: ClientCall) -> None:
        """Let a client reach the gateway of its site, or the nearest one that is there."""
        now_s = self._queue.now_s
        near = sorted(
            (0.0 if name == call.home else self._rtt_s.get((call.home, name), 1e9), name)
            for name, site in self.sites.items()
            if not site.is_down
        )
        if not near or near[0][0] >= 1e9:
            self._close(call, "unreachable", now_s, 0)
            return
        call.gateway = near[0][1]
        if call.gateway == call.home:
            self._route(now_s, call)
        else:
            self._queue.at(now_s + near[0][0] / 2, self._route, call)

    def _route(self, now_s: float, call: ClientCall) -> None:
        """Choose a site for a request, and send it there."""
        if call.is_over:
            return
        gateway = self.sites[call.gateway]
        if gateway.is_down:
            self._reach(call)
            return
        way = gateway.router.choose(call.asked, call.refusals[-MOST_TRIES:], now_s)
        call.why = call.why or way.reason
        call.part = 0
        if way.site is not None:
            self._pushed += self._is_pushing
            call.site = way.site
            self._queue.at(now_s + self._way_s(call), self._arrive, (call, call.continued))
        elif self._may_stay(call):
            call.site = call.gateway
            self._submit(now_s, call)
        else:
            may_run = any(call.may_run_at(each.settings) for each in self.sites.values())
            self._close(call, "rejected" if may_run else "forbidden", now_s, 0)

    def _may_stay(self, call: ClientCall) -> bool:
        """Whether a request may run at the site of its gateway; a row that was pushed may not."""
        may_run = call.may_run_at(self.sites[call.gateway].settings)
        return may_run and not (self._is_pushing and call.is_row)

    def _arrive(self, now_s: float, subject: tuple[ClientCall, int]) -> None:
        """Take a request at another site: it may wait a moment, then it is refused."""
        call, continued = subject
        if call.is_over or call.part or call.continued != continued:
            return
        if self.sites[call.gateway].is_down:
            self._reach(call)
        elif self.sites[call.site].is_down:
            self._queue.at(now_s + self._way_s(call), self._refused, call)
        elif not self._faults.connects(call.gateway, call.site, now_s):
            self._queue.at(now_s + CONNECT_S, self._refused, call)
        else:
            self._submit(now_s, call)
            if call.part and not call.is_row:
                self._queue.at(now_s + self._max_wait_s, self._end_wait, (call, call.part))

    def _submit(self, now_s: float, call: ClientCall) -> None:
        site = self.sites[call.site]
        assert call.may_run_at(site.settings), "no request leaves the regions of its tenant"
        tenant = f"site:{call.gateway}" if call.is_away else call.arrival.tenant
        number = call.number if call.number not in self._parts else self.next_number()
        if call.refusals or call.continued:
            number = self.next_number()
        call.part = number
        self._parts[number] = call
        call.request = site.fleet.arrive(number, call.rest(now_s, tenant))

    def _end_wait(self, now_s: float, subject: tuple[ClientCall, int]) -> None:
        """Refuse a request of another site that has waited too long."""
        call, part = subject
        if call.is_over or call.part != part:
            return
        if self.sites[call.site].fleet.withdraw(part) is not None:
            del self._parts[part]
            self._turn_back(call)

    def _turn_back(self, call: ClientCall) -> None:
        """Let the refusal of a site reach the gateway."""
        call.part = 0
        self._queue.at(self._queue.now_s + self._way_s(call), self._refused, call)

    def _refused(self, now_s: float, call: ClientCall) -> None:
        if call.is_over or call.part:
            return
        self._note_refusal(call, call.site, now_s, FULL)
        self._route(now_s, call)

    def _note_refusal(
        self, call: ClientCall, site: str, now_s: float, status: int | None, tokens: int = 0
    ) -> None:
        call.refusals.append(site)
        self.sites[call.gateway].router.refuse(call.asked, site, now_s, status, tokens)

    def _lose(self, call: ClientCall, tokens: int) -> None:
        """Go on elsewhere after a site was lost; a client whose gateway died asks again."""
        now_s, lost = self._queue.now_s, call.site
        gateway = self.sites[call.gateway]
        if gateway.is_down:
            if call.has_begun(now_s):
                self._close(call, "failed", now_s, tokens)
            else:
                call.part = 0
                self._reach(call)
            return
        call.go_on(tokens if call.first_s is not None else 0)
        if lost != call.gateway:
            self._note_refusal(call, lost, now_s, GONE, tokens)
        self._route(now_s, call)

    def _given(self, call: ClientCall, now_s: float) -> int:
        """Return how many tokens a client has of a part that is cut, by the usual time of each."""
        request, view = call.request, self.sites[call.site].view(0, now_s)
        if request is None or request.first_s is None or view is None:
            return 0
        call.take_first(request, self._way_s(call))
        tpot_s = next(iter(view.pools.values())).tpot_s
        return 1 + int((now_s - request.first_s) / tpot_s)

    def _complete(self, call: ClientCall, request: Request) -> None:
        way_s = self._way_s(call)
        call.take_first(request, way_s)
        call.cached_tokens = request.cached_tokens
        if call.is_away:
            router = self.sites[call.gateway].router
            router.serve(call.asked, call.site, request.output_tokens)
        self.sites[call.home].note_answer(call.done_tokens + request.output_tokens)
        key, lost_tokens = call.key, 0
        if key is not None:
            site, tokens = self._last.get(key, (call.site, 0))
            if site != call.site:
                held = min(tokens, call.arrival.prompt_tokens - 1)
                lost_tokens = max(0, held - request.cached_tokens)
            self._last[key] = call.site, call.arrival.prompt_tokens
        self._close(call, "length", request.end_s + way_s, request.output_tokens, lost_tokens)

    def _close(
        self, call: ClientCall, finish: str, at_s: float, tokens: int, lost_tokens: int = 0
    ) -> None:
        call.is_over = True
        self.open.pop(call.number, None)
        if call.is_row and finish != "length":
            self._end_row(call, finish)
        if finish in ("forbidden", "rejected", "unreachable") and not call.part:
            call.site = ""
        if not (self._is_pushing and call.is_row):
            self._note(call.record(at_s, finish, tokens, lost_tokens))

    def _end_row(self, call: ClientCall, finish: str) -> None:
        row = Request(call.number, replace(call.arrival))
        row.end(self._queue.now_s, finish, call.arrival.output_tokens)
        self.sites[call.home].run.jobs.end(row)

    def _way_s(self, call: ClientCall) -> float:
        """Return the time from the gateway to the site of a request, or back, s."""
        way_s = self._rtt_s[call.gateway, call.site] / 2 if call.is_away else 0.0
        if call.gateway != call.home:
            way_s += self._rtt_s[call.home, call.gateway] / 2
        return way_s
