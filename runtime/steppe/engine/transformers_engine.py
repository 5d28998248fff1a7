"""transformers as the engine of one replica: any model it supports, on a CPU or one GPU, no vLLM.

Same limits, telemetry and HTTP shape as the other engines. It decodes greedily, so a request with
a temperature other than 0 is refused, and one without a temperature gets 0.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from steppe.engine.detokenizer import Detokenizer
from steppe.engine.openai_app import OpenAiApp
from steppe.engine.openai_shape import (
    ChatPrompt,
    EngineRequest,
    OutputChunk,
    TextPrompt,
    TokenPrompt,
)
from steppe.engine.seam import Seam
from steppe.engine.transformers_settings import TransformersSettings
from steppe.errors import EngineError

if TYPE_CHECKING:
    from steppe.engine.transformers_generator import Generator

DEFAULT_OUTPUT_TOKENS = 16
"""Output limit of a text completion without one, as in OpenAI's API; a chat fills the context."""


@dataclass(slots=True)
class _RequestTokens:
    """The tokens of one request: results come from the engine's thread through the event loop."""

    prompt_ids: list[int]
    output_limit: int
    detokenizer: Detokenizer
    earlier: list[int]
    results: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    on_cancel: Callable[[], None] = lambda: None
    _sent: int = 0
    _ended: bool = False

    @property
    def prompt_tokens(self) -> int:
        """Tokens of its prompt."""
        return len(self.prompt_ids)

    async def next_chunk(self) -> OutputChunk:
        """Wait for more of the answer."""
        result = await self.results.get()
        while not self.results.empty():  # each result holds all the tokens so far
            result = self.results.get_nowait()
        self._ended = result.is_finished()
        if result.error is not None:
            raise EngineError(f"the engine failed the request: {result.error}")
        tokens = self.earlier + result.generated_tokens
        text = self.detokenizer.more(tokens, is_last=self._ended)
        finish = "length" if len(tokens) >= self.output_limit else "stop"
        new, self._sent = tokens[self._sent :], len(tokens)
        return OutputChunk(text, len(new), finish if self._ended else None, tuple(new))

    def cancel(self) -> None:
        """Free its place."""
        if not self._ended:
            self.on_cancel()


class TransformersEngine:
    """One model with its generator and its HTTP app, in this process."""

    def __init__(
        self, generator: Generator, tokenizer: Any, served_name: str, secret: str = ""
    ) -> None:
        """Wrap what `start_transformers` made; `listen` starts the app."""
        self._generator, self._tokenizer = generator, tokenizer
        self._app = OpenAiApp(served_name, self, secret)
        self.port = 0

    async def listen(self, host: str) -> None:
        """Serve on a free port of `host`."""
        self.port = await self._app.listen(host)

    async def freeze(self) -> None:
        """Stop stepping after the step that runs; requests keep their place."""
        self._generator.freeze()

    async def thaw(self) -> None:
        """Continue stepping."""
        self._generator.thaw()

    async def check(self) -> None:
        """Return if the engine is alive.

        Raises:
            EngineError: Its steps ended.
        """
        self._generator.check()

    async def stop(self) -> None:
        """End the steps and the app."""
        await asyncio.to_thread(self._generator.stop)
        await self._app.close()

    def begin(self, request: EngineRequest, request_id: str) -> _RequestTokens:
        """Accept a request.

        Raises:
            ValueError: It is too long, or uses what this engine does not support.
            EngineError: The engine died.
        """
        if request.temperature:
            raise ValueError(
                f"asked for temperature {request.temperature:g}, found greedy decoding"
            )
        from steppe.engine.transformers_generator import GeneratorRequest

        before = request.earlier
        tokens = self._tokens_of(request) if before is None else before.prompt
        earlier = [] if before is None else before.output
        room = self._generator.longest - len(tokens) if request.chat else DEFAULT_OUTPUT_TOKENS
        limit = request.output_tokens or max(1, room)
        answer = _RequestTokens(tokens, limit, Detokenizer(self._tokenizer), earlier)
        job = GeneratorRequest(
            request_id=request_id,
            tokens=tokens + earlier,
            output_tokens=max(1, limit - len(earlier)),
            stream=request.stream,
            ignore_eos=request.ignore_eos,
        )
        answer.on_cancel = self._generator.add(job, answer.results.put_nowait)
        return answer

    def _tokens_of(self, request: EngineRequest) -> list[int]:
        match request.prompt:
            case TokenPrompt(tokens):
                return tokens
            case TextPrompt(text):
                return list(self._tokenizer.encode(text))
            case ChatPrompt(messages):
                return _chat_tokens(self._tokenizer, messages)


def _chat_tokens(tokenizer: Any, messages: list[dict[str, Any]]) -> list[int]:
    from jinja2 import TemplateError

    try:
        tokens = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
    except (TemplateError, TypeError) as error:
        raise ValueError(f"the model's chat template refuses the messages: {error}") from error
    return list(tokens)


def _load(settings: TransformersSettings, seam: Seam) -> tuple[Generator, Any]:
    from transformers import AutoTokenizer

    from steppe.engine.transformers_generator import Generator, load_model

    local = os.path.isdir(settings.model)
    try:
        tokenizer = AutoTokenizer.from_pretrained(settings.model, local_files_only=local)
    except (OSError, ValueError, ImportError) as error:
        raise EngineError(f"no tokenizer for {settings.model}: {error}") from error
    return Generator(load_model(settings), settings, seam), tokenizer


async def start_transformers(
    settings: TransformersSettings, seam: Seam, host: str, secret: str = ""
) -> TransformersEngine:
    """Load a model, start its steps and serve its app on a free port of `host`.

    The app answers only requests that carry `secret`, unless it is empty.

    Raises:
        EngineError: The model cannot be loaded, or its cache does not fit.
    """
    generator, tokenizer = await asyncio.to_thread(_load, settings, seam)
    engine = TransformersEngine(generator, tokenizer, settings.served_name, secret)
    await engine.listen(host)
    return engine
