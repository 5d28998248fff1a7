"""Administration over HTTP: `/steppe/v1/config`, with an admin key or from this machine only."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from ipaddress import ip_address
from typing import Any

import orjson
from aiohttp import web

from steppe.config.change import SECTIONS, shown_section
from steppe.errors import ConfigError
from steppe.gateway.access import ADMIN_KEY_HEADER, CALLER, NOBODY, DeniedError
from steppe.gateway.answers import error_answer, json_answer
from steppe.gateway.config_changes import ConfigChanges

CHANGE_TIMEOUT_S = 15.0
"""Longest wait for a change to be carried out, s; then the answer is a 202."""
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-Ip")
"""Headers of a proxy: its own address says nothing about the client."""


class AdminDoor:
    """Lets in who may administrate the run."""

    def __init__(self, admin_key: str, *, is_open: bool) -> None:
        """Create it.

        Args:
            admin_key: The key of `gateway.admin_key_file`; empty without one.
            is_open: Whether no keys of tenants are configured.
        """
        self._digest = sha256(admin_key.encode()).digest() if admin_key else b""
        self._is_open = is_open

    def require(self, request: web.Request) -> str:
        """Return by what right a client administrates: a key, its tenant, or this machine.

        Raises:
            DeniedError: It may not.
        """
        caller = request.get(CALLER, NOBODY)
        if caller.is_admin:
            name: str = caller.tenant.name
            return name
        if self._digest:
            if hmac.compare_digest(sha256(_key(request).encode()).digest(), self._digest):
                return "admin key"
        elif self._is_open and _is_local(request):
            return "localhost"
        wanted = f"the admin key in {ADMIN_KEY_HEADER}" if self._digest else "an admin key"
        message = f"{request.path}: asked for {wanted}, found none that fits"
        raise DeniedError(403, "admin_key_required", message, param=ADMIN_KEY_HEADER)


class AdminApi:
    """Shows and changes the configuration of the run."""

    def __init__(
        self, door: AdminDoor, changes: ConfigChanges, timeout_s: float = CHANGE_TIMEOUT_S
    ) -> None:
        """Create it.

        Args:
            door: Lets in who may.
            changes: The configuration and its changes.
            timeout_s: Longest wait for a change to be carried out, s.
        """
        self._door, self._changes, self._timeout_s = door, changes, timeout_s

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/steppe/v1/config", self.show)
        router.add_get("/steppe/v1/config/{section}", self.show_section)
        router.add_put("/steppe/v1/config/{section}", self.change)
        router.add_patch("/steppe/v1/config/{section}", self.change)

    async def show(self, request: web.Request) -> web.Response:
        """Return the sections that can change."""
        self._door.require(request)
        config = self._changes.config
        if config is None:
            return _no_section("config")
        sections = {name: shown_section(config, name) for name in SECTIONS}
        return json_answer(
            {"object": "steppe.config", "version": self._changes.version, **sections}
        )

    async def show_section(self, request: web.Request) -> web.Response:
        """Return one of them."""
        self._door.require(request)
        config, section = self._changes.config, request.match_info["section"]
        if config is None or section not in SECTIONS:
            return _no_section(section)
        return json_answer(shown_section(config, section))

    async def change(self, request: web.Request) -> web.Response:
        """Replace a section (PUT), or some of its keys (PATCH), while the run goes on."""
        by, section = self._door.require(request), request.match_info["section"]
        if self._changes.config is None or section not in SECTIONS:
            return _no_section(section)
        try:
            values = await _values(request)
            if request.method == "PATCH":
                values = {**shown_section(self._changes.config, section), **values}
            result = await self._changes.ask(section, values, by, self._timeout_s)
        except ConfigError as error:
            return _invalid(str(error))
        if result is not None and result.error:
            return _invalid(result.error)
        is_done = result is not None
        answer: dict[str, Any] = {"object": "steppe.config_change", "section": section}
        answer |= {"applied": is_done, "t_s": result.t_s if result is not None else None}
        return json_answer(answer, status=200 if is_done else 202)


async def _values(request: web.Request) -> Mapping[str, Any]:
    try:
        found = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"asked for a JSON object, found {error.msg}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"asked for a JSON object, found {type(found).__name__}")
    return found


def _key(request: web.Request) -> str:
    key = request.headers.get(ADMIN_KEY_HEADER)
    if key is None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        key = key if scheme.lower() == "bearer" else ""
    return key.strip()


def _is_local(request: web.Request) -> bool:
    if any(name in request.headers for name in _FORWARDED):
        return False
    try:
        address = ip_address((request.remote or "").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def _no_section(section: str) -> web.Response:
    message = f"asked for a section that can change, {', '.join(SECTIONS)}, found {section:.60}"
    return error_answer(
        404, message, type_="invalid_request_error", code="section_not_found", param="section"
    )


def _invalid(message: str) -> web.Response:
    return error_answer(400, message, type_="invalid_request_error", code="invalid_config")
