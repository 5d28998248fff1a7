"""Answers of vLLM's app to requests that its engine core cannot take: 400, not 500.

vLLM's front end checks most parameters, but not whether each fits into the message to the engine
core: `top_k` of 2**70 and a `stop` with half of a surrogate pair do not. The failure then looks
like one of the engine, and a gateway would send the request to the next replica.
"""

from __future__ import annotations

from typing import Any

_TOKEN_END = 1 << 31


def answer_client_errors(engine: Any, state: Any, server: Any) -> None:
    """Make requests that cannot be sent to the engine core a client's error.

    Args:
        engine: vLLM's `AsyncLLM`.
        state: State of vLLM's app; its error handler ends a server whose engine is dead.
        server: The HTTP server of that app.
    """
    from vllm.exceptions import VLLMValidationError

    state.server = server
    core = engine.engine_core
    send = core.add_request_async

    async def send_or_refuse(request: Any) -> None:
        try:
            _check_tokens(request)
            await send(request)
        except (OverflowError, TypeError, ValueError) as error:
            raise VLLMValidationError(
                f"asked for parameters that the engine can take, found {error}"
            ) from error

    core.add_request_async = send_or_refuse


def _check_tokens(request: Any) -> None:
    """Refuse stop tokens that no vocabulary has: model runner V2 keeps them in 32 bits.

    Raises:
        ValueError: There is one.
    """
    sampling = request.sampling_params
    for token in getattr(sampling, "stop_token_ids", None) or ():
        if not -_TOKEN_END <= token < _TOKEN_END:
            raise ValueError(f"stop token {token}")
