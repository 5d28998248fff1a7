from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import aiohttp
import pytest
from tests.gateway.site import CHAT_BODY, ONE_MODEL, Site, SiteFactory

from steppe.config import RunConfig
from steppe.config.sites import SitesSection
from steppe.engine.run_secret import secret_headers
from steppe.gateway.access import OPEN, AccessSettings
from steppe.gateway.access_log import NO_ACCESS_LOG, AccessLogSettings
from steppe.gateway.batch_api import UploadLimits
from steppe.gateway.ledger.link import LedgerLink
from steppe.gateway.replica_caches import AffinitySettings
from steppe.gateway.server import Gateway, GatewayAlias, GatewayModel, GatewaySettings
from steppe.services.connections import HTTP_LIMITS, HttpLimits
from steppe.sites.peer import RouterService

if TYPE_CHECKING:  # OpenTelemetry is an extra
    from steppe.gateway.tracing import RequestTraces


@pytest.fixture
async def open_site() -> AsyncIterator[SiteFactory]:
    async with AsyncExitStack() as stack:

        async def open_one(
            *,
            max_waiting: int = 10,
            max_wait_s: float = 30.0,
            max_body_bytes: int = 64 << 20,
            write_timeout_s: float = 60.0,
            keep_alive_s: float = 15.0,
            hold_s: float = 3600.0,
            now_s: Callable[[], float] = time.monotonic,
            models: tuple[GatewayModel, ...] = (ONE_MODEL,),
            aliases: tuple[GatewayAlias, ...] = (),
            access: AccessSettings = OPEN,
            http: HttpLimits = HTTP_LIMITS,
            stop_timeout_s: float = 0.1,
            energy_wait_s: float = 2.0,
            config: RunConfig | None = None,
            admin_key: str = "",
            access_log: AccessLogSettings = NO_ACCESS_LOG,
            traces: RequestTraces | None = None,
            affinity: AffinitySettings | None = None,
            uploads: UploadLimits | None = None,
            run_secret: str = "",
            ledger: LedgerLink | None = None,
            page: bool = True,
            sites: SitesSection | None = None,
            router: RouterService | None = None,
            stale_s: float = 3.0,
        ) -> Site:
            settings = GatewaySettings(
                host="127.0.0.1",
                port=0,
                max_waiting=max_waiting,
                max_wait_s=max_wait_s,
                models=models,
                aliases=aliases,
                energy_wait_s=energy_wait_s,
                config=config,
                admin_key=admin_key,
                access_log=access_log,
                retry_delays_s=(0.0, 0.0),
                write_timeout_s=write_timeout_s,
                keep_alive_s=keep_alive_s,
                hold_s=hold_s,
                stop_timeout_s=stop_timeout_s,
                max_body_bytes=max_body_bytes,
                stale_s=stale_s,
                access=access,
                http=http,
                affinity=affinity,
                uploads=uploads,
                ledger=ledger,
                page=page,
                sites=sites,
                replica_headers=secret_headers(run_secret),
            )
            client = await stack.enter_async_context(aiohttp.ClientSession(auto_decompress=False))
            gateway = Gateway(settings, now_s, traces, router)
            site = Site(stack, client, gateway, await gateway.start())
            stack.push_async_callback(gateway.stop)
            return site

        yield open_one


@pytest.fixture
async def site(open_site: SiteFactory) -> Site:
    return await open_site()


@pytest.fixture
def chat_body() -> bytes:
    return CHAT_BODY


@pytest.fixture
def chat_stream() -> bytes:
    """What vLLM streams for a chat with `stream_options: {include_usage: true}`."""
    head = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    delta = head + b'"choices":[{"index":0,"delta":%s,"logprobs":null,"finish_reason":%s}]}\n\n'
    return b"".join(
        [
            delta % (b'{"role":"assistant","content":""}', b"null"),
            delta % ('{"content":"Grüß"}'.encode(), b"null"),
            delta % (rb'{"content":" \"usage\": {\"prompt_tokens\": 99} "}', b"null"),
            delta % (b'{"content":"!"}', b'"stop"'),
            head + b'"choices":[],"usage":{"prompt_tokens":7,"total_tokens":10,'
            b'"completion_tokens":3}}\n\n',
            b"data: [DONE]\n\n",
        ]
    )
