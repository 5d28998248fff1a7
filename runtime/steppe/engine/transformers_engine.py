"""transformers as the engine of one replica: any model it knows, on a CPU or one GPU, no vLLM.

Same limits, telemetry and HTTP shape as the other engines. It decodes greedily, so a request that
asks for another temperature than 0 is refused, and one that asks for none gets 0.
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
"""Of a text completion that names no number, as in OpenAI's API; a chat gets what room is left."""


@dataclass(slots=True)
class _Generation:
    """One request: results come from the engine's thread by way of the event loop."""

    prompt_tokens: int
    output_limit: int
    detokenizer: Detokenizer
    results: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    give_up: Callable[[], None] = lambda: None
    _told: int = 0
    _ended: bool = False

    async def next_piece(self) -> OutputChunk:
        """Wait for more of the answer."""
        result = await self.results.get()
        while not self.results.empty():  # each result holds all the tokens so far
            result = self.results.get_nowait()
        self._ended = result.is_finished()
        if result.error is not None:
            raise EngineError(f"the engine gave the request up: {result.error}")
        tokens = result.generated_tokens
        text = self.detokenizer.more(tokens, is_last=self._ended)
        finish = "length" if len(tokens) >= self.output_limit else "stop"
        fresh, self._told = len(tokens) - self._told, len(tokens)
        return OutputChunk(text, fresh, finish if self._ended else None)

    def drop(self) -> None:
        """Give its place free."""
        if not self._ended:
            self.give_up()


class TransformersEngine:
    """One model with its generator and its HTTP app, in this process."""

    def __init__(self, generator: Generator, tokenizer: Any, served_name: str) -> None:
        """Hold what `start_transformers` made; `listen` opens the door."""
        self._generator, self._tokenizer = generator, tokenizer
        self._app = OpenAiApp(served_name, self)
        self.port = 0

    async def listen(self, host: str) -> None:
        """Serve on a free port of `host`."""
        self.port = await self._app.listen(host)

    async def freeze(self) -> None:
        """Stop stepping after the step that runs; requests keep their place."""
        self._generator.freeze()

    async def thaw(self) -> None:
        """Go on stepping."""
        self._generator.thaw()

    async def check(self) -> None:
        """Return if the engine lives.

        Raises:
            EngineError: Its steps ended.
        """
        self._generator.check()

    async def stop(self) -> None:
        """End the steps and the app."""
        await asyncio.to_thread(self._generator.stop)
        await self._app.close()

    def begin(self, asked: EngineRequest, request_id: str) -> _Generation:
        """Take a request in.

        Raises:
            ValueError: It is too long, or asks for what this engine cannot do.
            EngineError: The engine died.
        """
        if asked.temperature:
            raise ValueError(f"asked for temperature {asked.temperature:g}, found greedy decoding")
        from steppe.engine.transformers_generator import GeneratorRequest

        tokens = self._tokens_of(asked)
        room = self._generator.longest - len(tokens) if asked.chat else DEFAULT_OUTPUT_TOKENS
        limit = asked.output_tokens or max(1, room)
        generation = _Generation(len(tokens), limit, Detokenizer(self._tokenizer))
        wanted = GeneratorRequest(request_id, tokens, limit, asked.stream, asked.ignore_eos)
        generation.give_up = self._generator.add(wanted, generation.results.put_nowait)
        return generation

    def _tokens_of(self, asked: EngineRequest) -> list[int]:
        match asked.prompt:
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
    except TemplateError as error:
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
    settings: TransformersSettings, seam: Seam, host: str
) -> TransformersEngine:
    """Load a model, start its steps and serve its app on a free port of `host`.

    Raises:
        EngineError: The model cannot be loaded, or its cache does not fit.
    """
    generator, tokenizer = await asyncio.to_thread(_load, settings, seam)
    engine = TransformersEngine(generator, tokenizer, settings.served_name)
    await engine.listen(host)
    return engine
