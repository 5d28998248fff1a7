"""What the ledger gets of a request that is recorded."""

from __future__ import annotations

from steppe.config import RunConfig
from steppe.gateway.server import FinishedRequest
from steppe.ledger.booking import BookedRequest
from steppe.models.identity import ModelIdentity, identity_of
from steppe.report.records import RequestRecord

US_PER_S = 1_000_000


def identities(config: RunConfig) -> dict[str, ModelIdentity]:
    """Return what is known of each model of a run, by the name that clients use."""
    if config.engine.kind == "synthetic":
        return {}
    return {name: identity_of(alone.model.name) for name, alone in config.pools.items()}


def booked_request(
    request: FinishedRequest, record: RequestRecord, energy_uj: int, model: ModelIdentity
) -> BookedRequest:
    """Return a request as the ledger takes it.

    Args:
        request: What the gateway says about it.
        record: Its record.
        energy_uj: Its energy, uJ.
        model: What is known of its model.
    """
    started_us = round(request.arrival_epoch_s * US_PER_S)
    ttft_s = request.ttft_s
    cached = min(record.cached_tokens or 0, record.prompt_tokens)
    return BookedRequest(
        id=request.engine_id,
        request=request.id,
        tenant=request.tenant,
        model=request.model,
        priority=request.priority,
        prompt_tokens=record.prompt_tokens,
        cached_tokens=cached,
        output_tokens=record.output_tokens,
        energy_uj=energy_uj,
        energy_source=str(record.energy_source),
        started_us=started_us,
        first_us=0 if ttft_s is None else started_us + round(ttft_s * US_PER_S),
        ended_us=started_us + round(request.e2e_s * US_PER_S),
        finish=record.finish,
        had_replica=request.was_served,
        terms=request.terms,
        key_id=request.key_id,
        model_rev=model.revision,
        tokenizer_sha=model.tokenizer_sha,
    )
