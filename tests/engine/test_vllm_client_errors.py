from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from steppe.engine.vllm_client_errors import answer_client_errors


class RequestRefusedError(Exception):
    """Stands in for vLLM's error of a client's request."""


class Core:
    """An engine core that cannot encode some requests."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.sent: list[Any] = []

    async def add_request_async(self, request: Any) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(request)


def asked(stop_token_ids: list[int] | None = None) -> Any:
    return SimpleNamespace(sampling_params=SimpleNamespace(stop_token_ids=stop_token_ids))


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    exceptions = SimpleNamespace(VLLMValidationError=RequestRefusedError)
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(exceptions=exceptions))
    monkeypatch.setitem(sys.modules, "vllm.exceptions", exceptions)


def opened(core: Core) -> SimpleNamespace:
    """Return the state of an app in front of a core."""
    state = SimpleNamespace()
    answer_client_errors(SimpleNamespace(engine_core=core), state, "the server")
    return state


@pytest.mark.parametrize(
    "error",
    [
        OverflowError("can't serialize ints > 2**64 - 1"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        TypeError("not an int"),
    ],
)
async def test_what_cannot_be_sent_is_an_error_of_the_client(error: Exception) -> None:
    core = Core(error)
    opened(core)
    with pytest.raises(RequestRefusedError, match="asked for parameters that the engine can take"):
        await core.add_request_async(asked())


async def test_a_failure_of_the_engine_stays_one() -> None:
    core = Core(RuntimeError("the engine is dead"))
    opened(core)
    with pytest.raises(RuntimeError, match="the engine is dead"):
        await core.add_request_async(asked())


async def test_a_stop_token_that_no_vocabulary_has_is_refused() -> None:
    core = Core(None)
    opened(core)
    with pytest.raises(RequestRefusedError, match=f"found stop token {2**40}"):
        await core.add_request_async(asked([7, 2**40]))
    for request in (asked([7]), asked(), SimpleNamespace(sampling_params=None)):
        await core.add_request_async(request)
    assert len(core.sent) == 3


def test_the_app_knows_its_server() -> None:
    assert opened(Core(None)).server == "the server"
