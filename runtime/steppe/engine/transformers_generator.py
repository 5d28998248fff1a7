"""Continuous batching by transformers, without HTTP: token ids in, token ids out.

Written for transformers 5.19. The KV cache is always bounded: by default transformers takes 90 % of
the free memory (on a CPU: of the machine's).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig
from transformers.generation.continuous_batching.scheduler import SCHEDULER_MAPPING
from transformers.utils import logging as transformers_logging

from steppe.engine.control_block import EngineLimits
from steppe.engine.cpu_dtype import cpu_dtype
from steppe.engine.seam import Seam
from steppe.engine.transformers_settings import CACHE_TOKENS, TransformersSettings
from steppe.engine.transformers_steps import (
    LiveManager,
    StepRecorder,
    TransformersScheduler,
    internal_id,
)
from steppe.errors import EngineError

CPU_PAGE, GPU_PAGE = 16, 256
"""Tokens of a cache page; flash attention's decode path needs multiples of 256."""
STOP_S = 10.0
"""How long a stop waits for the running step."""


@dataclass(frozen=True, slots=True)
class GeneratorRequest:
    """One request to the generator.

    Attributes:
        request_id: The id of the client; need not be unique.
        tokens: Token ids of the prompt.
        output_tokens: Most output tokens.
        stream: Whether `on_result` is called for each step, or only for the last.
        ignore_eos: Whether to continue after the end-of-text token.
    """

    request_id: str
    tokens: list[int]
    output_tokens: int
    stream: bool = False
    ignore_eos: bool = False


def load_model(settings: TransformersSettings) -> Any:
    """Load a model onto the GPU, or the CPU if there is none, in a dtype that it computes fast.

    Raises:
        EngineError: transformers cannot load it.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = None if device == "cuda" else cpu_dtype()
    local = os.path.isdir(settings.model)
    transformers_logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            settings.model, dtype=dtype or "auto", local_files_only=local
        )
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise EngineError(f"transformers cannot load {settings.model}: {error}") from error
    return model.to(device)


def cache_token_bytes(model: Any) -> int:
    """Return the bytes of keys and values of one token."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * model.dtype.itemsize)


class Generator:
    """Decodes greedily, many requests at once, in a thread of its own."""

    def __init__(self, model: Any, settings: TransformersSettings, seam: Seam) -> None:
        """Make the cache and start the thread.

        Raises:
            EngineError: The cache does not hold a step, or does not fit into memory.
        """
        page = GPU_PAGE if model.device.type == "cuda" else CPU_PAGE
        size = settings.kv_cache_bytes or CACHE_TOKENS * cache_token_bytes(model)
        pages = size // (page * cache_token_bytes(model))
        self._numbers = itertools.count()
        self.longest = _longest(model, settings, (pages - 1) * page)
        self._vocabulary: int = model.get_input_embeddings().weight.shape[0]
        own = EngineLimits(settings.max_batch_limit, settings.max_tokens_per_step)
        self._recorder = StepRecorder(seam.open_block(), seam.make_hook(), own)
        self._scheduler = f"steppe-{id(self)}"
        SCHEDULER_MAPPING[self._scheduler] = partial(TransformersScheduler, self._recorder)
        try:
            self._manager = LiveManager(
                self._recorder,
                model=model,
                generation_config=_greedy(model),
                continuous_batching_config=self._batching(settings, page, pages),
            )
            self._manager.make_cache()
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"no KV cache of {pages} pages of {page} tokens: {error}") from error
        with _on_cores(settings.cores):
            self._manager.start()

    def add(
        self, request: GeneratorRequest, on_result: Callable[[Any], None]
    ) -> Callable[[], None]:
        """Accept a request; call it in an event loop, which then calls `on_result`.

        Args:
            request: The request.
            on_result: Called with each `GenerationOutput`; the last one `is_finished()`.

        Returns:
            A function that cancels the request.

        Raises:
            ValueError: The request is longer than the model or the cache allows, or has a token
                outside the vocabulary.
            EngineError: The engine died.
        """
        self._refuse_invalid(request)
        self.check()
        name = internal_id(request.request_id, next(self._numbers))
        self._manager.register_result_handler(name, on_result)
        accepted = self._manager.add_request(
            request.tokens,
            request_id=name,
            max_new_tokens=request.output_tokens,
            streaming=request.stream,
            eos_token_id=-1 if request.ignore_eos else None,
        )
        if accepted is None:
            raise EngineError("the transformers engine is stopping")
        return partial(self._manager.forget, name)

    def freeze(self) -> None:
        """Stop stepping after the step that runs; requests keep their place."""
        self._recorder.awake.clear()
        self._manager.wake()

    def thaw(self) -> None:
        """Continue stepping."""
        self._recorder.awake.set()
        self._manager.wake()

    def check(self) -> None:
        """Return if the steps can continue.

        Raises:
            EngineError: They ended.
        """
        error = self._manager.fatal_error
        if error is not None or not self._manager.is_running():
            raise EngineError(f"the steps of the transformers engine ended: {error}") from error

    def stop(self) -> None:
        """End the steps; outstanding requests fail."""
        self._manager.wake()
        self._manager.stop(block=True, timeout=STOP_S, hard_stop=True)
        SCHEDULER_MAPPING.pop(self._scheduler, None)

    def _refuse_invalid(self, request: GeneratorRequest) -> None:
        whole = len(request.tokens) + request.output_tokens
        if not request.tokens or whole > self.longest:
            raise ValueError(
                f"asked for {len(request.tokens)} prompt and {request.output_tokens} output tokens,"
                f" found room for 1 to {self.longest} together"
            )
        # A step with an unknown token fails, and with it every other request.
        unknown = [token for token in request.tokens if not 0 <= token < self._vocabulary]
        if unknown:
            raise ValueError(f"asked for token {unknown[0]}, found {self._vocabulary} tokens known")

    def _batching(self, settings: TransformersSettings, page: int, pages: int) -> Any:
        # Without block sharing every prompt token is computed, so step tokens equal the usage.
        return ContinuousBatchingConfig(
            page_size=page,
            num_blocks=pages,
            max_batch_tokens=max(settings.max_tokens_per_step, settings.max_batch_limit),
            max_requests_per_batch=settings.max_batch_limit,
            allow_block_sharing=False,
            use_async_batching=False,
            use_cuda_graph=False,
            auto_switch_to_flash=_has_flash_attention(),
            scheduler_type=self._scheduler,
        )


def _has_flash_attention() -> bool:
    """Return whether a kernel is installed; transformers would also download one from a hub."""
    return any(find_spec(name) is not None for name in ("flash_attn", "flash_attn_interface"))


def _longest(model: Any, settings: TransformersSettings, cache_tokens: int) -> int:
    own = getattr(model.config.get_text_config(), "max_position_embeddings", cache_tokens)
    longest = min(settings.max_model_len or own, own, cache_tokens)
    if longest < 2 or settings.max_tokens_per_step < 1:
        raise EngineError(
            f"asked for a KV cache of {settings.kv_cache_bytes} bytes,"
            f" found {cache_token_bytes(model)} bytes needed for each token"
        )
    return int(longest)


def _greedy(model: Any) -> GenerationConfig:
    own = model.generation_config
    return GenerationConfig(
        do_sample=False,
        eos_token_id=-1 if own.eos_token_id is None else own.eos_token_id,
        pad_token_id=own.pad_token_id,
        bos_token_id=own.bos_token_id,
    )


@contextmanager
def _on_cores(cores: tuple[int, ...]) -> Iterator[None]:
    """Restrict a thread started inside, and the threads it starts, to these cores."""
    if not cores:
        yield
        return
    everywhere = os.sched_getaffinity(0)
    torch.set_num_threads(len(cores))
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, everywhere)
