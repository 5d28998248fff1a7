"""The HTTP endpoint that clients use: sections of the configuration."""

from __future__ import annotations

import re
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from steppe.config.section import Count, FilePath, NonNegative, Positive, Section, Share


def _host(host: str) -> str:
    label = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
    is_name = re.fullmatch(rf"({label}\.)*(?!\d+\.?$){label}\.?", host, re.IGNORECASE)
    if not is_name:
        try:
            ip_address(host)
        except ValueError:
            raise ValueError("asked for an address or the name of a host") from None
    return host


Host = Annotated[str, AfterValidator(_host)]
"""An IP address, or a host name whose last label is not all digits."""


def _network(network: str) -> str:
    try:
        ip_network(network)
    except ValueError:
        raise ValueError("asked for an IP address or a network such as 10.0.0.0/8") from None
    return network


Network = Annotated[str, AfterValidator(_network)]
"""An IP address, or a network in CIDR notation."""


class ClassSharesSection(Section):
    """Least share of each priority class in the tokens that are served while it waits.

    By default an urgent request always goes before one of a lower class.
    """

    interactive: Share = 0.0
    """Least share of class `interactive`."""
    standard: Share = 0.0
    """Least share of class `standard`."""
    deferrable: Share = 0.0
    """Least share of class `deferrable`; note that it then also spends scarce watts."""

    @model_validator(mode="after")
    def _at_most_all(self) -> ClassSharesSection:
        if sum(self.in_order) > 1:
            raise ValueError("asked for shares with a sum of at most 1")
        return self

    @property
    def in_order(self) -> tuple[float, float, float]:
        """The shares, the most urgent class first."""
        return self.interactive, self.standard, self.deferrable


class HttpSection(Section):
    """How much a client may hold at the gateway."""

    header_s: Positive = 10.0
    """Longest time from the first byte of a request to the end of its headers, s; then a 408. A
    handshake of TLS may take no longer either."""
    body_s: Positive = 60.0
    """Longest time for the body of a request to arrive, s; then a 408."""
    idle_s: Positive = 75.0
    """Longest time between two requests of a connection, s; then it is closed."""
    connections: Count = 10_000
    """Most connections of all clients; further ones get a 503. The limit of open files of the
    process (`ulimit -n`) must be higher."""
    connections_per_client: Count = 2_000
    """Most connections of one address; further ones get a 503. Trusted proxies have no such
    limit."""
    body_bytes: Annotated[int, Field(ge=1024)] = 64 << 20
    """Largest body of a request, bytes; a larger one gets a 413."""
    bodies_bytes: Annotated[int, Field(ge=1024)] = 256 << 20
    """Most bytes of the bodies of all open requests; a request beyond it gets a 503."""


ALL_ADDRESSES = ("0.0.0.0", "::")
"""Hosts that stand for all addresses of a machine."""


class GatewaySection(Section):
    """The HTTP endpoint that clients use."""

    host: Host = "127.0.0.1"
    """Address to listen on: an IP address or a host name. Without keys (section `tenants`) only one
    of this machine, such as `127.0.0.1`, is allowed."""
    allow_without_keys: bool = False
    """Listen on any host without keys: everybody who reaches it may ask."""
    trusted_proxies: Annotated[tuple[Network, ...], Field(strict=False)] = ()
    """Addresses or networks of reverse proxies whose header `x-steppe-tenant` is believed. All
    other callers then need a key."""
    open_metrics: bool = False
    """Answer `/metrics` without a key; otherwise it needs one of an `admin` tenant, if keys are
    configured."""
    admin_key_file: FilePath | None = None
    """File with the key for admin calls (`/steppe/v1/config`), sent as `X-Steppe-Admin-Key`, at
    least 16 characters; relative to this file. Tenants with `admin` may always make them. If
    absent, and without keys of tenants, admin calls are answered on this machine only."""
    access_log: Literal["none", "text", "json"] = "none"
    """Log one line for each request over HTTP: `text` for people, `json` for programs; with `json`,
    the gateway's other log lines are JSON, too. No line has keys, headers or bodies."""
    access_log_file: FilePath | None = None
    """File of the access log; relative to this file. Another program may move it away, such as
    logrotate. If absent, the lines are in the gateway's log."""
    traces: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    """Send OpenTelemetry traces of requests to this address, OTLP over HTTP, such as
    `http://collector:4318/v1/traces`; needs the extra `otel`. None if absent."""
    trace_share: Share = 1.0
    """Share of the requests that are traced; those of a client with a sampled `traceparent` are in
    any case."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """TCP port to listen on; 0 chooses a free one."""
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Gateway processes on each node that has a gateway. They share the port, and the kernel
    spreads the connections over them. Limits of tenants and places of replicas hold for all
    together."""
    nodes: Literal["one", "every"] = "one"
    """Where gateways run: on the node of `steppe serve`, or also on every other node of the run.
    With `every` each listens on the address of its node, or on all addresses if `host` is
    `0.0.0.0` or `::`; `host` is otherwise left out."""
    page: bool = True
    """Answer `/` with the live page, for browsers; with `off`, with JSON, as for other clients."""
    page_history_s: Annotated[float, Field(ge=60, le=86_400)] = 3600.0
    """How far back the charts of the page reach with fine points, s; the whole run has coarser
    ones."""
    tls_certificate: FilePath | None = None
    """Certificate of the endpoint and those that lead to its root, a PEM file; relative to this
    file. With it clients use `https`."""
    tls_key: FilePath | None = None
    """Private key of the certificate, a PEM file without a password; relative to this file."""
    max_waiting: Annotated[int, Field(ge=0)] = 1000
    """Most requests for one model that may wait for a replica; beyond it, the newest of the lowest
    class gets a 503. A model whose replicas sleep cannot fill the queue of another."""
    max_wait_s: Positive = 300.0
    """Longest time a request of any class may wait for a replica, s; then it gets a 503, or an
    error event if its stream has comments already (`keep_alive_s`)."""
    keep_alive_s: Positive = 15.0
    """A stream for which nothing has come for so long gets an SSE comment, s, and another after
    each such time, so that no proxy closes it. Clients ignore comments."""
    hold_s: Positive = 3600.0
    """Longest time that a stream is held between two of its events, s, as while its replica is
    paused or it waits for another one. Then it ends with an error event."""
    drain_s: NonNegative = 5.0
    """How long outstanding requests may go on after SIGTERM or Ctrl-C, s, under the budget as
    before. New ones get a 503. What has not ended by then gets an error. Give a service manager
    more time than this, such as systemd's `TimeoutStopSec`."""
    http: HttpSection = HttpSection()
    """Limits of connections, headers and bodies."""
    class_shares: ClassSharesSection = ClassSharesSection()
    """Least share of each priority class while requests wait."""
    prefix_affinity: bool = True
    """Send a request to the replica that was sent the longest part of its prompt before, such as
    the same conversation or the same system prompt, unless that one is overloaded. Otherwise the
    replica with the least outstanding work gets it. Prompts below 512 bytes have no affinity."""
    prefix_load_bound: Annotated[float, Field(ge=1)] = 3.0
    """Most requests of a replica that is chosen for its prefix cache, times its fair share of the
    outstanding requests. 1: the load decides; large: the prefix does."""
    prefix_wait_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Longest time that a request waits for a busy replica that holds much more of its prompt than
    those with room (2,048 tokens or more), share of the TTFT SLO. 0: none."""
    prefix_index_blocks: Annotated[int, Field(ge=1)] = 8192
    """Blocks of 512 bytes of prompts that the gateway keeps of each replica; a block takes
    about 250 bytes of memory. A simulation keeps as many tokens as a replica's caches hold."""

    @model_validator(mode="after")
    def _certificate_and_key(self) -> GatewaySection:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("asked for both of tls_certificate and tls_key, or for none")
        return self

    @model_validator(mode="after")
    def _address_of_each_node(self) -> GatewaySection:
        if self.nodes == "one":
            return self
        if self.port == 0:
            raise ValueError("asked for nodes: every, which needs a port, found port: 0")
        if self.host not in (*ALL_ADDRESSES, GatewaySection.model_fields["host"].default):
            found = f"found host: {self.host}"
            raise ValueError(f"asked for nodes: every, which uses the address of each, {found}")
        return self

    @property
    def is_shared(self) -> bool:
        """Whether the run may have several gateways."""
        return self.processes > 1 or self.nodes == "every"

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the host."""
        if self.nodes == "every":
            return False
        try:
            return ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return self.host.lower().rstrip(".") == "localhost"
