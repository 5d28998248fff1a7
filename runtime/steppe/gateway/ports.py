"""The port of a gateway, before it listens."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

from steppe.errors import UsageError


def refuse_port_in_use(host: str, port: int) -> None:
    """Check, before anything is started, that a gateway can listen there.

    Raises:
        UsageError: It cannot, for instance because the port is in use.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        raise cannot_listen(host, port, error) from error


def hold_port(host: str, port: int) -> tuple[socket.socket, int]:
    """Take a port for the gateways of this user that share it, without listening.

    Args:
        host: The host.
        port: The port; 0 chooses a free one.

    Returns:
        A socket, which holds the port until it is closed, and the port.

    Raises:
        UsageError: The port is in use.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as stack:
            held = stack.enter_context(socket.socket(family, kind))
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(address)
            stack.pop_all()
    except OSError as error:
        raise cannot_listen(host, port, error) from error
    return held, held.getsockname()[1]


def authority(host: str, port: int) -> str:
    """Return host and port as written in a URL (RFC 3986, 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cannot_listen(host: str, port: int, error: OSError) -> UsageError:
    """Return the error for an address that a gateway cannot listen on."""
    where = authority(host, port)
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"gateway.port: {where} is in use already")
    return UsageError(f"gateway: cannot listen on {where}: {error.strerror or error}")
