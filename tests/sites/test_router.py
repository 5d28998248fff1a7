from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import Metric
from tests.fixtures.beating_sites import HOST, tls_of
from tests.sites.conftest import MakeAsked, MakeSite

from steppe.config.sites import PeerSection, SitesSection
from steppe.errors import UsageError
from steppe.ledger.signing import PrivateKey
from steppe.sites.beats.peers import Health
from steppe.sites.notes import Notes
from steppe.sites.peer import HOP, OF_THE_REQUEST, End, SiteTry, TryOutcome
from steppe.sites.quotas import QuotaLease
from steppe.sites.router import SiteRouter
from steppe.sites.service.sent_api import MOST_NOTES
from steppe.sites.settlement.sent import Sent
from steppe.sites.state import PeerState, SitesState, write_state
from steppe.sites.trust.certificates import Credential, new_authority
from steppe.sites.trust.token import HEADER, read_token

LONGEST_S = 30.0
URL = "https://10.0.0.2:8443"
KEY = PrivateKey("a", b"\3" * 32)
SERVED = TryOutcome(200, 11, 7, 1_790_000_000.0, 1_790_000_001.5, "served")


@dataclass
class FakeService:
    """The sites service of a run, as a gateway sees it."""

    state: Callable[[], SitesState]
    status: int = 200
    url: str = ""
    notes: list[Sent] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)

    async def start(self) -> web.AppRunner:
        application = web.Application()
        application.router.add_get("/sites/v1/state", self._show)
        application.router.add_post("/sites/v1/sent", self._take)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        self.url = f"http://{HOST}:{runner.addresses[0][1]}"
        return runner

    async def _show(self, request: web.Request) -> web.Response:
        self.secrets.add(request.headers.get("X-Steppe-Run", ""))
        now_s = time.monotonic()
        return web.Response(body=write_state(self.state(), now_s), status=self.status)

    async def _take(self, request: web.Request) -> web.Response:
        if self.status == 200:
            found = (await request.json())["sent"]
            assert len(found) <= MOST_NOTES
            try:
                self.notes += [Sent.read(each) for each in found]
            except UsageError as error:
                return web.Response(status=400, text=str(error))
        return web.Response(status=self.status)


@pytest.fixture(scope="module")
def authority() -> Credential:
    return new_authority("steppe test", time.time())


@pytest.fixture
def section(tmp_path: Path, authority: Credential) -> SitesSection:
    tls_of(tmp_path, "a", authority)
    KEY.write(tmp_path / "tokens")
    public = PrivateKey("b", b"\4" * 32).public.text
    return SitesSection(
        name="a",
        region="north",
        certificate=tmp_path / "a.pem",
        key=tmp_path / "a.pem",
        authority=tmp_path / "authority.pem",
        token_key=tmp_path / "tokens",
        peers=(PeerSection(name="b", url=URL, region="south", token_keys=(public,)),),
        period_s=0.02,
        most_j=5.0,
    )


@pytest.fixture
async def service(make_site: MakeSite) -> AsyncIterator[FakeService]:
    lease = QuotaLease("b", "m", "interactive", 1e5, 1e6, time.monotonic(), 60.0)

    def state() -> SitesState:
        now_s = time.monotonic()
        here = make_site("a", received_s=now_s)
        view = make_site("b", region="south", surplus_w=400.0, received_s=now_s)
        peers = (PeerState("b", URL, "south", Health.LIVE, 0.01, view),)
        # The times of a busy machine are none of an old state.
        return SitesState("a", "0" * 16, 1, 60.0, here, peers, (lease,))

    made = FakeService(state)
    runner = await made.start()
    yield made
    await runner.cleanup()


@pytest.fixture
async def router(section: SitesSection) -> AsyncIterator[SiteRouter]:
    made = SiteRouter(section, run_secret="5ec7e7", rng=random.Random(1))
    await made.start()
    yield made
    await made.stop()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONGEST_S):
        while not is_so():
            await asyncio.sleep(0.01)


async def chosen(router: SiteRouter, make_asked: MakeAsked, engine_id: str = "e1") -> SiteTry:
    """Return a try, as soon as the router knows of a site and a quota."""
    found: list[SiteTry] = []

    def is_chosen() -> bool:
        peer = router.choose(make_asked(tenant="acme"), engine_id, ())
        found.extend([peer] if peer is not None else [])
        return bool(found)

    await until(is_chosen)
    return found[0]


def value(metrics: list[Metric], name: str, **labels: str) -> float:
    """Return the value of a sample; 0 without it."""
    samples = (sample for metric in metrics for sample in metric.samples)
    found = (s.value for s in samples if s.name == name and labels.items() <= s.labels.items())
    return sum(found)


async def test_a_try_has_the_energy_per_token_that_its_site_shows(
    router: SiteRouter, service: FakeService, make_asked: MakeAsked
) -> None:
    router.set_url(service.url)
    assert (await chosen(router, make_asked)).uj_per_token > 0.0


async def test_a_request_for_another_site_has_a_token_that_this_site_has_signed(
    router: SiteRouter, service: FakeService, make_asked: MakeAsked
) -> None:
    assert router.choose(make_asked(), "e0", ()) is None
    router.set_url(service.url)
    peer = await chosen(router, make_asked)
    assert (peer.site, peer.url, peer.request) == ("b", URL, "e1.1")
    assert peer.headers[HOP] == "1"
    assert peer.headers["x-request-id"] == "e1.1"
    assert peer.headers["x-steppe-priority"] == "interactive"
    token = read_token(
        peer.headers[HEADER], home="a", target="b", keys=[KEY.public], now_s=time.time()
    )
    assert (token.request, token.most_uj) == ("e1.1", 5_000_000)
    assert "acme" not in token.tenant
    assert service.secrets == {"5ec7e7"}


async def test_a_tenant_has_the_same_name_each_time_and_another_one_at_each_site(
    router: SiteRouter,
) -> None:
    one = router._pseudonym("acme", "b")
    assert one == router._pseudonym("acme", "b")
    assert len({one, router._pseudonym("acme", "c"), router._pseudonym("other", "b")}) == 3


async def test_what_was_sent_is_noted_at_the_service_once(
    router: SiteRouter, service: FakeService, make_asked: MakeAsked
) -> None:
    router.set_url(service.url)
    peer = await chosen(router, make_asked)
    router.note(peer, SERVED)
    router.note(peer, SERVED)  # the second one is of no try
    await until(lambda: value(router.exposition(), "steppe_sites_notes_sent_total") == 1)
    note = Sent(
        "e1.1", "b", "acme", "m", 11, 7, 1_790_000_000_000_000, 1_790_000_001_500_000, "served",
        200, 5_000_000,
    )  # fmt: skip
    assert set(service.notes) == {note}  # a busy machine may have sent it twice
    metrics = router.exposition()
    assert value(metrics, "steppe_sites_hops_total", site="b", end="served") == 1
    assert value(metrics, "steppe_sites_tokens_total", site="b", kind="output") == 7
    assert value(metrics, "steppe_sites_notes_sent_total") == 1
    assert value(metrics, "steppe_sites_requests_total", site="b") >= 1


async def test_notes_wait_for_a_service_that_is_away(
    router: SiteRouter, service: FakeService, make_asked: MakeAsked
) -> None:
    router.set_url(service.url)
    peers = [await chosen(router, make_asked, f"e{number}") for number in range(3)]
    service.status = 503
    for peer in peers:
        router.note(peer, SERVED)
    await router.send_notes()
    assert value(router.exposition(), "steppe_sites_notes_waiting") == 3
    service.status = 200
    asked = {"e0.1", "e1.1", "e2.1"}
    await until(lambda: {note.request for note in service.notes} == asked)


async def test_the_stop_of_a_gateway_sends_what_waits(
    router: SiteRouter, service: FakeService, make_asked: MakeAsked
) -> None:
    router.set_url(service.url)
    router.note(await chosen(router, make_asked), SERVED)
    await router.stop()
    assert {note.request for note in service.notes} == {"e1.1"}


async def test_notes_beyond_the_most_are_dropped_and_counted(service: FakeService) -> None:
    notes = Notes(most=2)
    for number in range(5):
        notes.add(Sent(f"e{number}.1", "b", "t", "m", 1, 1, 1, 2, "served", 200, 5))
    assert (len(notes), notes.dropped) == (2, 3)


async def test_many_notes_are_sent_in_several_calls(
    router: SiteRouter, service: FakeService
) -> None:
    router.set_url(service.url)
    one = Sent("e.1", "b", "t", "m", 1, 1, 1, 2, "served", 200, 5)
    for number in range(2 * MOST_NOTES + 1):
        router._notes.add(replace(one, request=f"e{number}.1"))
    await router.send_notes()
    await until(lambda: len({note.request for note in service.notes}) == 2 * MOST_NOTES + 1)


async def test_a_note_that_is_not_as_it_should_be_takes_no_other_one_with_it(
    router: SiteRouter, service: FakeService
) -> None:
    router.set_url(service.url)
    one = Sent("e.1", "b", "t", "m", 1, 1, 1, 2, "served", 200, 5)
    for number in range(5):
        tokens = -7 if number == 2 else 1
        router._notes.add(replace(one, request=f"e{number}.1", output_tokens=tokens))
    await until(lambda: value(router.exposition(), "steppe_sites_notes_dropped_total") == 1)
    await until(lambda: value(router.exposition(), "steppe_sites_notes_waiting") == 0)
    assert {note.request for note in service.notes} == {"e0.1", "e1.1", "e3.1", "e4.1"}


async def test_notes_that_the_service_refuses_do_not_hold_up_the_others(
    router: SiteRouter, service: FakeService, make_asked: MakeAsked
) -> None:
    router.set_url(service.url)
    peer = await chosen(router, make_asked)
    service.status = 400
    router.note(peer, SERVED)
    await until(lambda: value(router.exposition(), "steppe_sites_notes_dropped_total") == 1)
    assert value(router.exposition(), "steppe_sites_notes_waiting") == 0


@pytest.mark.parametrize("end", ["refused", "lost", "unreachable"])
async def test_a_site_that_fails_rests(
    router: SiteRouter, service: FakeService, make_asked: MakeAsked, end: End
) -> None:
    router.set_url(service.url)
    peer = await chosen(router, make_asked)
    router.note(peer, replace(SERVED, end=end, status=None, output_tokens=0))
    assert router.choose(make_asked(), "e2", ()) is None
    metrics = router.exposition()
    assert value(metrics, "steppe_sites_resting", site="b") == 1
    assert value(metrics, "steppe_sites_hops_total", end=end) == 1


@pytest.mark.parametrize("reason", sorted(OF_THE_REQUEST))
async def test_a_refusal_for_what_is_wrong_with_one_request_keeps_no_other_from_the_site(
    router: SiteRouter, service: FakeService, make_asked: MakeAsked, reason: str
) -> None:
    router.set_url(service.url)
    peer = await chosen(router, make_asked)
    refused = replace(SERVED, end="refused", status=403, output_tokens=0, reason=reason)
    router.note(peer, refused)
    assert router.choose(make_asked(), "e2", ()) is not None


async def test_without_a_service_everything_stays_here_at_once(
    router: SiteRouter, service: FakeService, make_asked: MakeAsked
) -> None:
    router.set_url(service.url)
    await chosen(router, make_asked)
    router.set_url(None)
    assert router.choose(make_asked(), "e2", ()) is None
    assert value(router.exposition(), "steppe_sites_usable", site="b") == 0


async def test_a_service_that_fails_or_answers_nonsense_leaves_the_last_state(
    router: SiteRouter,
    service: FakeService,
    make_asked: MakeAsked,
    caplog: pytest.LogCaptureFixture,
) -> None:
    router.set_url(service.url)
    await chosen(router, make_asked)
    service.status = 500
    await router.read_state()
    await router.read_state()
    assert router.choose(make_asked(), "e2", ()) is not None
    lines = [line for line in caplog.messages if "found 500" in line]
    assert len(lines) == 1  # once, not each period
    assert "all requests stay here" in lines[0]


async def test_a_renewed_certificate_is_loaded_and_a_damaged_one_is_not(
    router: SiteRouter,
    section: SitesSection,
    authority: Credential,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    tls_of(tmp_path, "a", authority)
    await until(lambda: "the certificate of this site was loaded anew" in caplog.messages)
    section.certificate.write_text("no certificate")
    await until(lambda: any("asked for PEM" in line for line in caplog.messages))
