from __future__ import annotations

import asyncio
import socket

from tests.gateway.site import Site

from steppe.gateway.replica_client import open_session


async def test_a_silent_host_is_detected_within_20_s(site: Site) -> None:
    replica = await site.replica("r0")
    replica.stream = [b"data: {}\n\n", asyncio.Event()]
    async with open_session(1.0) as session, session.get(replica.url) as answer:
        assert answer.connection is not None
        assert answer.connection.transport is not None
        tcp = answer.connection.transport.get_extra_info("socket")
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle_s, every_s, count = (
            tcp.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle_s + every_s * (count - 1) <= 20
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
