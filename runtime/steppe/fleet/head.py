"""Ray's servers for one run, started so that they outlive the process that starts them.

`ray.init` ends the servers that it starts with its own process, and `ray start` announces them to
every other user of the host. Both use this class of Ray.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from typing import Any

from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
from ray._private.node import Node
from ray._private.parameter import RayParams
from ray._private.worker import enable_token_auth_by_default


def start_head(system_config: Mapping[str, Any]) -> str:
    """Start GCS and raylet of a new cluster on this host; return the address of the GCS.

    Only processes of this user can connect, by a token, as with `ray.init`.

    Args:
        system_config: Settings of Ray.

    Raises:
        Exception: What Ray happens to raise.
    """
    allow_own_head()
    ensure_token_if_auth_enabled({}, create_token_if_missing=True)
    parameters = RayParams(
        include_dashboard=False,
        # Neither is needed, and they do not end with the servers that they watch.
        no_monitor=True,
        include_log_monitor=False,
        gcs_server_port=_free_port(),
        _system_config=dict(system_config),
    )
    node = Node(parameters, head=True, shutdown_at_exit=False, spawn_reaper=False)
    return str(node.gcs_address)


def allow_own_head() -> None:
    """Let this process use the token of this user, as the servers of `start_head` require."""
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    enable_token_auth_by_default()


def _free_port() -> int:
    """Return a port that is free now: a GCS that is started again needs the one it had."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
    return port
