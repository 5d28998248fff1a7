from __future__ import annotations

import asyncio
import socket
from typing import Any

from steppe.gateway.proxy import open_session


async def test_connections_to_replicas_notice_within_20_s_that_a_host_is_silent(site: Any) -> None:
    replica = await site.replica("r0")
    replica.stream = [b"data: {}\n\n", asyncio.Event()]
    async with open_session(1.0) as session, session.get(replica.url) as answer:
        assert answer.connection is not None
        assert answer.connection.transport is not None
        line = answer.connection.transport.get_extra_info("socket")
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle_s, every_s, count = (
            line.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle_s + every_s * (count - 1) <= 20
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
