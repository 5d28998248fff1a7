"""How a gateway is set up."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from steppe.config import RunConfig
from steppe.config.sites import SitesSection
from steppe.control.admission import NO_SHARES
from steppe.gateway.access import OPEN, AccessSettings
from steppe.gateway.access_log import NO_ACCESS_LOG, AccessLogSettings
from steppe.gateway.batch_api import UploadLimits
from steppe.gateway.client_stream import HOLD_S, KEEP_ALIVE_S, WRITE_TIMEOUT_S
from steppe.gateway.ledger.link import LedgerLink
from steppe.gateway.replica_caches import AffinitySettings
from steppe.gateway.served_model import GatewayAlias, GatewayModel
from steppe.services.connections import HTTP_LIMITS, HttpLimits


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How the gateway listens and how long it lets requests wait.

    Attributes:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        max_waiting: Most requests for one model that may wait for a slot; beyond it, the last of
            the lowest class gets a 503. A model whose pool sleeps cannot fill the queue of another.
        max_wait_s: Longest time a request of any class may wait for a slot, s; then it gets a 503.
        models: The served models, at least one.
        aliases: Names that stand for several of them.
        retry_delays_s: Pauses before each retry of a request that a replica failed before its
            first byte, s.
        connect_timeout_s: Time limit for a connection to a replica, s.
        write_timeout_s: A client that reads nothing of its stream for this long is disconnected, s.
        keep_alive_s: A stream without an event for so long gets a comment, s.
        hold_s: A stream without an event for so long is given up, s.
        stop_timeout_s: How long `stop` lets outstanding requests go on, s.
        max_body_bytes: Largest request body, bytes.
        http: How much a client may hold at the gateway.
        stale_s: Requests wait once the controller has been silent for so long, s.
        access: Who may ask, and how much.
        tls_certificate: Certificate file, PEM; None to serve plain HTTP.
        tls_key: File of its key, PEM.
        replica_headers: Headers that every request to a replica needs: the secret of the run.
        energy_wait_s: Longest time that the end of an answer waits for its energy, s, if the client
            asks for it; then the energy is estimated.
        class_shares: Least share of each priority class in what is served while it waits.
        config: The configuration of the run, which admin calls show and change; None for none.
        admin_key: The key for admin calls; empty without one.
        access_log: Which access log to write.
        traces: Address of an OTLP collector for traces; None for none.
        trace_share: Share of the requests without a trace of their own that get one.
        affinity: How much the prefix caches of replicas count; the load alone decides if None.
        uploads: What clients may upload for the Batch API; None without one.
        ledger: How it uses the ledger of the run; None without one.
        name: Name of this gateway among several; empty if it is the only one.
        gateways: How many gateways the run has at first.
        page: Whether browsers get the live page at `/`.
        page_history_s: How far back the finer points of its charts reach, s.
        sites: The other sites; None without any.
        shares_port: Whether other processes of this user may listen on the same port.
    """

    host: str
    port: int
    max_waiting: int
    max_wait_s: float
    models: tuple[GatewayModel, ...]
    retry_delays_s: tuple[float, ...] = (0.2, 1.0)
    connect_timeout_s: float = 5.0
    write_timeout_s: float = WRITE_TIMEOUT_S
    keep_alive_s: float = KEEP_ALIVE_S
    hold_s: float = HOLD_S
    stop_timeout_s: float = 5.0
    max_body_bytes: int = 64 << 20
    http: HttpLimits = HTTP_LIMITS
    stale_s: float = math.inf
    access: AccessSettings = OPEN
    aliases: tuple[GatewayAlias, ...] = ()
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    replica_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    energy_wait_s: float = 2.0
    class_shares: tuple[float, ...] = NO_SHARES
    config: RunConfig | None = field(default=None, repr=False)
    admin_key: str = field(default="", repr=False)
    access_log: AccessLogSettings = NO_ACCESS_LOG
    traces: str | None = None
    trace_share: float = 1.0
    affinity: AffinitySettings | None = None
    uploads: UploadLimits | None = None
    ledger: LedgerLink | None = None
    name: str = ""
    gateways: int = 1
    page: bool = True
    page_history_s: float = 3600.0
    sites: SitesSection | None = None
    shares_port: bool = False
