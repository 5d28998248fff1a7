"""The traces that a configuration asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steppe.errors import UsageError
from steppe.gateway.settings import GatewaySettings

if TYPE_CHECKING:  # OpenTelemetry is an extra
    from steppe.gateway.tracing import RequestTraces


def traces_of(settings: GatewaySettings) -> RequestTraces | None:
    """Return the traces of the settings; None without any.

    Raises:
        UsageError: OpenTelemetry is not installed.
    """
    if settings.traces is None:
        return None
    try:
        from steppe.gateway.tracing import otlp_traces
    except ModuleNotFoundError as error:
        found = f"found no module {error.name}: install the extra otel"
        raise UsageError(f"gateway.traces: asked for OpenTelemetry, {found}") from error
    return otlp_traces(settings.traces, settings.trace_share)
