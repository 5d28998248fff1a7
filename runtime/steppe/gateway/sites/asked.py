"""What the choice of a site has to know of a request, read from the request itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiohttp import web

from steppe.gateway.continuable import PATHS
from steppe.gateway.request import RequestContext
from steppe.gateway.request_body import RequestBody
from steppe.gateway.served_model import GatewayModel
from steppe.gateway.sites.conversation import conversation_key
from steppe.sites.peer import CONVERSATION, HOP, REVISION
from steppe.sites.view import RequestView
from steppe.tenants.tenant import Tenant

SENT_PATHS = PATHS | {"/v1/messages"}
"""Requests that other sites may serve: their answers depend on nothing that one site keeps."""
_REVISION = re.compile(r"[A-Za-z0-9._:/@-]{1,128}")
_CONVERSATION = re.compile(r"[\x21-\x7e]{1,256}")


@dataclass(frozen=True, slots=True)
class SiteHeaders:
    """What the headers of a request say about its site.

    Attributes:
        revision: Revision of the model that it insists on; None for any.
        conversation: Name of its conversation; empty without one.
    """

    revision: str | None = None
    conversation: str = ""


def read_site_headers(headers: Mapping[str, str]) -> SiteHeaders:
    """Return what the headers of a request say about its site.

    Raises:
        web.HTTPBadRequest: One of them is not valid.
    """
    revision, conversation = headers.get(REVISION), headers.get(CONVERSATION, "")
    if revision is not None and not _REVISION.fullmatch(revision):
        asked = f"{REVISION}: asked for at most 128 of A-Z a-z 0-9 ._:/@-"
        raise web.HTTPBadRequest(text=f"{asked}, found {revision!r:.150}")
    if conversation and not _CONVERSATION.fullmatch(conversation):
        asked = f"{CONVERSATION}: asked for at most 256 characters of ASCII without a space"
        raise web.HTTPBadRequest(text=f"{asked}, found {conversation!r:.150}")
    return SiteHeaders(revision, conversation)


def check_hop(headers: Mapping[str, str], *, from_site: bool) -> None:
    """Refuse a hop that no site has made, and a call of a site without one.

    Args:
        headers: The headers of a request.
        from_site: Whether another site has sent it.

    Raises:
        web.HTTPBadRequest: They do not fit.
    """
    found = headers.get(HOP)
    if found != ("1" if from_site else None):
        asked = f"asked for {HOP}: 1" if from_site else f"asked for no header {HOP}"
        raise web.HTTPBadRequest(text=f"{asked}, found {found!r:.40}")


def may_be_sent(request: web.Request) -> bool:
    """Return whether another site may serve a request, as far as its form goes."""
    is_json = request.content_type == "application/json"
    is_plain = is_json and "Content-Encoding" not in request.headers
    is_plain = is_plain and request.raw_path.partition("?")[0] == request.path
    return is_plain and request.path in SENT_PATHS and HOP not in request.headers


def regions_of(tenant: Tenant, own_region: str) -> frozenset[str]:
    """Return the regions that requests of a tenant may go to."""
    return frozenset((own_region,) if tenant.regions is None else tenant.regions)


def allowed_now(asked: RequestView, tenant: Tenant, own_region: str) -> RequestView:
    """Return a request with what its tenant allows now."""
    return replace(asked, regions=regions_of(tenant, own_region), data_class=tenant.data_class)


def asked_of(
    context: RequestContext,
    body: RequestBody,
    headers: SiteHeaders,
    tenant: Tenant,
    *,
    model: GatewayModel,
    own_region: str,
    prompt_tokens: int,
    output_tokens: int,
) -> RequestView:
    """Return what the choice of a site has to know of a request.

    Args:
        context: The request.
        body: What its body says.
        headers: What its headers say.
        tenant: Who asks.
        model: The model that is to serve it, with its SLO.
        own_region: The region of this site.
        prompt_tokens: Its prompt tokens, estimated for a text.
        output_tokens: The output tokens that are expected.
    """
    name = context.adapter or context.model
    conversation = headers.conversation or body.conversation
    return RequestView(
        model=name,
        revision=headers.revision,
        priority=context.headers.priority,
        regions=regions_of(tenant, own_region),
        data_class=tenant.data_class,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        conversation=conversation_key(tenant.name, name, conversation) if conversation else None,
        ttft_s=model.ttft_s,
        tpot_s=model.tpot_s,
        tenant=tenant.name,
    )
