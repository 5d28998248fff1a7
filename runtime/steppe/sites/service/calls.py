"""What a call of another site must be, before anything of this site is spent on it.

A call that is not as it must be gets a 403, so that no client gets an answer meant for its site.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

import orjson
from aiohttp import web

from steppe.ledger.signing import PublicKey
from steppe.services.api_error import ApiError
from steppe.sites.beats.exchange import EpochS
from steppe.sites.peer import HOP, REVISION
from steppe.sites.service.expected import expected_uj
from steppe.sites.trust.identity import RefusedPeerError, identity_of
from steppe.sites.trust.replay import ReplayGuard
from steppe.sites.trust.token import HEADER as TOKEN
from steppe.sites.trust.token import Token, TokenError, read_token
from steppe.sites.view import SiteView

WITHOUT_OUTPUT = frozenset({"/v1/embeddings", "/v1/rerank", "/v1/score", "/v1/classify"})
PATHS = WITHOUT_OUTPUT | {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/messages",
    "/v1/responses",
}
"""What another site may send here: calls that compute an answer, and change nothing."""
JSON = "application/json"
_REQUEST = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def home_of(request: web.Request, sites: Collection[str], now_s: float) -> str:
    """Return the site that calls.

    Args:
        request: The call.
        sites: The sites that may call.
        now_s: Clock of this host, s since the Unix epoch.

    Raises:
        ApiError: Its certificate is not that of a site of the list, or has ended.
    """
    transport = request.transport
    certificate = None if transport is None else transport.get_extra_info("peercert")
    try:
        return identity_of(certificate, sites, now_s)
    except RefusedPeerError as error:
        raise ApiError(403, "not_a_site", str(error)) from error


class CallChecks:
    """Checks the calls of other sites."""

    def __init__(
        self,
        site: str,
        keys: Mapping[str, Sequence[PublicKey]],
        read_view: Callable[[], SiteView | None],
        epoch_s: EpochS,
    ) -> None:
        """Keep its parts.

        Args:
            site: Name of this site.
            keys: The other sites, and the keys of their tokens.
            read_view: Returns what this site shows of itself; None before it is known.
            epoch_s: The clock by which certificates and tokens end, s since the Unix epoch.
        """
        self._site, self._keys = site, keys
        self._read_view, self._epoch_s = read_view, epoch_s
        self._replays = ReplayGuard()

    def home_of(self, request: web.Request) -> str:
        """Return the site that calls.

        Raises:
            ApiError: Its certificate is not that of a site of the list, or has ended.
        """
        return home_of(request, self._keys, self._epoch_s())

    def token_of(self, request: web.Request, home: str) -> Token:
        """Return the token of a call whose headers are as they must be; it is used with that.

        Raises:
            ApiError: They are not.
        """
        if request.raw_path.partition("?")[0] != request.path:
            asked = "asked for a plain path"
            raise ApiError(403, "path_not_allowed", f"{asked}, found {request.raw_path!r:.120}")
        if (hops := request.headers.getall(HOP, [])) != ["1"]:
            found = ", ".join(hops) or "none"
            raise ApiError(403, "hop_not_allowed", f"{HOP}: asked for 1, found {found:.40}", HOP)
        if request.content_type != JSON or "Content-Encoding" in request.headers:
            asked = f"asked for {JSON} without a Content-Encoding"
            raise ApiError(403, "not_json", f"{asked}, found {request.content_type:.80}")
        texts = request.headers.getall(TOKEN, [])
        try:
            if len(texts) != 1:
                raise TokenError(f"{TOKEN}: asked for one, found {len(texts)}")
            now_s = self._epoch_s()
            token = read_token(
                texts[0], home=home, target=self._site, keys=self._keys[home], now_s=now_s
            )
            if not _REQUEST.fullmatch(token.request):
                asked = "asked for at most 128 of A-Z a-z 0-9 ._:-"
                raise TokenError(f"token.jti: {asked}, found {token.request!r:.150}")
            self._replays.use(token, now_s)
        except TokenError as error:
            raise ApiError(403, "token_refused", str(error), TOKEN) from error
        return token

    def check_body(self, request: web.Request, token: Token, body: bytes) -> None:
        """Check what a call asks for.

        Raises:
            ApiError: It is no JSON, asks for another revision, needs more energy than its home
                pays for, or this site knows too little of itself.
        """
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ApiError(403, "not_json", f"asked for JSON, found {error}") from error
        if not isinstance(found, dict):
            raise ApiError(403, "not_json", f"asked for an object, found {type(found).__name__}")
        view = self._read_view()
        if view is None:
            raise ApiError(
                503, "site_not_ready", f"{self._site} has no figures of its own power yet"
            )
        self._check_revision(view, found.get("model"), request.headers.get(REVISION))
        needed_uj = expected_uj(view, found, generates=request.path not in WITHOUT_OUTPUT)
        if needed_uj > token.most_uj:
            asked = f"asked for a call of at most {token.most_uj / 1e6:g} J, as its token says"
            message = f"{asked}, found one that is expected to need {needed_uj / 1e6:g} J"
            raise ApiError(403, "too_much_energy", message, "max_tokens")

    def _check_revision(self, view: SiteView, model: object, revision: str | None) -> None:
        found = next((pool for pool in view.pools.values() if pool.model == model), None)
        if revision is not None and found is not None and found.revision != revision:
            message = f"{model}: asked for revision {revision:.80}, found {found.revision}"
            raise ApiError(403, "other_revision", message, REVISION)
