"""One request at the gateway: what its client sent, its state while it is open, its result."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from steppe.control.admission import DEFERRABLE, PRIORITIES, Ticket
from steppe.gateway.continuable import PlainStream
from steppe.gateway.held_tail import HeldTail
from steppe.gateway.prompt_size import UNKNOWN_SIZE, PromptCount, PromptSize
from steppe.gateway.stream import StreamScanner, Usage
from steppe.sites.view import RequestView
from steppe.tenants.limiter import Taken

if TYPE_CHECKING:  # it has the context
    from steppe.gateway.ledger.holds import RequestHold

FAILED = frozenset({"error", "abort"})
REFUSED = frozenset({"rejected", "shed"})
UNSERVED = REFUSED | {"invalid"}
"""Ends that have no receipt."""

_VALID_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass(frozen=True, slots=True)
class ClientHeaders:
    """The headers of a request that the gateway uses.

    Attributes:
        tenant: Name of the tenant that the key belongs to; without keys, `x-steppe-tenant`.
        priority: `x-steppe-priority`, one of `PRIORITIES`, or `standard`.
        request_id: `x-request-id`, or an empty text.
        weight: The tenant's weight among those of its class.
        key_id: Public part of the API key; empty without one.
        quote: `x-steppe-quote`, the id of a quote that it is to be paid with; or empty.
    """

    tenant: str
    priority: str
    request_id: str
    weight: float = 1.0
    key_id: str = ""
    quote: str = ""

    @property
    def is_deferrable(self) -> bool:
        """Whether no SLO judges the request, because it waits for power by design."""
        return self.priority == PRIORITIES[DEFERRABLE]


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """The result of one request.

    Attributes:
        id: Its id, unique among outstanding and recent requests.
        engine_id: The id that its replicas got, made here; vLLM's own ids contain it.
        tenant: The tenant.
        priority: One of `PRIORITIES`.
        arrival_s: When its headers arrived, s since the gateway started (monotonic).
        arrival_epoch_s: The same, s since the Unix epoch.
        ttft_s: Arrival to the first streamed event with generated text (or, without text, with a
            finish reason), waiting included; None if the response was not a stream.
        e2e_s: Arrival to the last byte, s.
        prompt_tokens: From the replica's `usage`; None without one. The next two also.
        cached_tokens: Prompt tokens found in the prefix cache.
        output_tokens: Tokens generated.
        finish: The replica's finish reason, `other` if it is unknown; `cancelled`: the client
            disconnected, or the gateway stopped; `invalid`: a 4xx response; `abort`: aborted by
            the engine; `error`: the replica failed; `rejected`: refused on arrival; `shed`:
            refused after waiting.
        status: HTTP status sent; 499 if the client disconnected.
        replica: The last replica of this site that had it; None if none did.
        streamed: Whether the client asked for an event stream.
        model: The model whose replicas served it, by the name that clients use.
        adapter: The LoRA adapter of that model that it asked for; empty without one.
        wants_energy: Whether its answer waits for its energy.
        wait_s: Arrival until the last replica got it, s; None if none did.
        continued: How often its stream went on at another replica, or at the same one again.
        asked_model: The alias that it asked for; empty if it asked for a model.
        gateway: Name of the gateway that had it; empty if there is only one.
        terms: The rate that the ledger fixed at admission, `TARIFF/NUMBER`; empty for none.
        key_id: Public part of its API key; empty without one.
        site: The other site that had it last; empty if it was served here alone.
    """

    id: str
    engine_id: str
    tenant: str
    priority: str
    arrival_s: float
    arrival_epoch_s: float
    ttft_s: float | None
    e2e_s: float
    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    finish: str
    status: int
    replica: str | None
    streamed: bool
    model: str = ""
    adapter: str = ""
    wants_energy: bool = False
    wait_s: float | None = None
    continued: int = 0
    asked_model: str = ""
    gateway: str = ""
    terms: str = ""
    key_id: str = ""
    site: str = ""

    @property
    def was_served(self) -> bool:
        """Whether a replica of this site, or another site, had it."""
        return self.replica is not None or bool(self.site)


@dataclass(frozen=True, slots=True)
class SettledRequest:
    """What the books say about a request that has ended.

    Attributes:
        id: Its id, as in `FinishedRequest`.
        tenant: The tenant.
        taken: Its tokens, as the engine counted them, and its energy.
    """

    id: str
    tenant: str
    taken: Taken


@dataclass(slots=True)
class RequestContext:
    """One open request; times are `time.monotonic`, s.

    Attributes:
        id: Its id.
        headers: The headers that the gateway uses.
        ticket: Its position in the queue.
        arrival_s: When its headers arrived, s.
        wants_stream: Whether the client asked for an event stream.
        prompt: Size of its prompt.
        counted: Tokens that its prompt counts for while it is open.
        is_first_counted: Whether its first token is part of the counts against the SLO.
        replica: The last replica that had it; None before the first.
        is_at_replica: Whether that replica has it now; False while it waits to be retried.
        status: HTTP status to record.
        finish: How it ended, as in `FinishedRequest`.
        usage: The replica's `usage`, if any.
        scanner: The scanner of its event stream, if any.
        on_first_text: Called when the first generated text has passed.
        failed_at: Replicas that answered it with a 5xx.
        failed_s: Time spent at replicas that failed, s; it does not count as waiting.
        places: Sequences that it generates; each takes a place of a batch.
        blocks: Chained hashes of the blocks of its prompt, see `prompt_blocks`.
        avoid: Replicas that its client asks to avoid where others have room.
        plain: What the client of a stream asked for that can go on elsewhere; None for others.
        continued: How often its stream went on after it had begun.
        engine_id: The id for replicas. No part of it comes from the client: a client could shape
            an id so that another request is charged.
        model: Name of the model whose replicas serve it.
        adapter: The LoRA adapter of that model that it asks for; empty without one.
        tail: Holds back the end of its stream until its energy is known; None if the client does
            not ask for energy.
        sent_s: When the last replica got it, s; None before the first.
        alias: The alias that it asks for; empty if it asks for a model.
        is_pinned: Whether only its first variant may serve it.
        is_charged: Whether it has waited, so that its class and its tenant were charged.
        terms: The rate that the ledger fixed for it, as in `FinishedRequest`.
        hold: What the ledger holds for it; None if it has no price.
        asked: What another site is chosen by; None for one that stays here.
        may_stay: Whether its tenant allows the region of this site.
        is_here: Whether it counts as demand of this site: it stays, or has come back.
        site: The other site that had it last; empty before.
        is_hop: Whether another site has sent it.
        earlier_tokens: Output tokens in the usage that another site has computed before.
    """

    id: str
    headers: ClientHeaders
    ticket: Ticket
    arrival_s: float
    wants_stream: bool = False
    prompt: PromptSize = UNKNOWN_SIZE
    counted: PromptCount = field(default_factory=PromptCount)
    is_first_counted: bool = False
    replica: str | None = None
    is_at_replica: bool = False
    status: int = 500
    finish: str = "error"
    usage: Usage | None = None
    scanner: StreamScanner | None = None
    on_first_text: Callable[[], None] = lambda: None
    failed_at: set[str] = field(default_factory=set)
    failed_s: float = 0.0
    places: int = 1
    blocks: tuple[int, ...] = ()
    avoid: frozenset[str] = frozenset()
    plain: PlainStream | None = None
    continued: int = 0
    engine_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    model: str = ""
    adapter: str = ""
    tail: HeldTail | None = None
    sent_s: float | None = None
    alias: str = ""
    is_pinned: bool = False
    is_charged: bool = False
    terms: str = ""
    hold: RequestHold | None = None
    asked: RequestView | None = None
    may_stay: bool = True
    is_here: bool = True
    site: str = ""
    is_hop: bool = False
    earlier_tokens: int = 0

    @property
    def may_move(self) -> bool:
        """Whether another variant may serve it: not at the price of the one that had it."""
        is_bound = self.hold is not None and (self.replica is not None or bool(self.site))
        return not (self.is_pinned or is_bound)

    @property
    def first_text_s(self) -> float | None:
        """When the first generated text passed; None before, and without a stream."""
        return None if self.scanner is None else self.scanner.first_text_s

    @property
    def output_tokens(self) -> int | None:
        """Its output tokens; those of a stream without a `usage` by its events; None if unknown."""
        if self.usage is not None:
            return self.usage.output_tokens
        return None if self.scanner is None else self.scanner.text_events

    @property
    def tokens(self) -> int | None:
        """Its prompt and output tokens; None if unknown."""
        output = self.output_tokens
        if output is None:
            return None
        prompt = self.counted.prompt_tokens if self.usage is None else self.usage.prompt_tokens
        return prompt + output

    def end_stream(self, scanner: StreamScanner) -> None:
        """Record the usage and the outcome of a stream."""
        self.usage = scanner.usage
        self.finish = scanner.outcome

    def disconnect(self) -> None:
        """Record that the client disconnected; no effect after `[DONE]`."""
        self.cancel(499)

    def cancel(self, status: int) -> None:
        """Record that the response ends here, no replica's fault; no effect after `[DONE]`."""
        if self.scanner is not None:
            self.end_stream(self.scanner)
            if self.scanner.is_done:
                return
        self.finish = "cancelled"
        self.status = status


def request_id(wanted: str) -> str:
    """Return the id if it is valid (letters, digits, `._:-`, at most 128), else a new one."""
    return wanted if _VALID_ID.fullmatch(wanted) else uuid.uuid4().hex
