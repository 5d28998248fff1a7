"""Requests that go on where another engine ended: the same body, and the tokens so far.

The gateway sends the request of a stream that lost its replica again, with two lists in
`vllm_xargs`: the token ids of the prompt, and those of the output so far. The engine core computes
both as one prompt. Everything behind it is in the state of a stream that never broke: the
detokenizer (characters of several tokens, stop strings), the parser of reasoning, and the counts of
`usage`. The first output therefore repeats the text so far; the gateway leaves out what its client
has.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import AsyncIterator
from typing import Any

from steppe.engine.earlier import OUTPUT, PROMPT, Earlier

_COUNT = "steppe_output_count"


def continue_requests(engine: Any) -> None:
    """Let an engine continue requests of others.

    Args:
        engine: vLLM's `AsyncLLM`.
    """
    generate, processor = engine.generate, engine.output_processor
    add = processor.add_request

    def generate_on(prompt: Any, sampling_params: Any, request_id: str, **more: Any) -> Any:
        earlier = take_earlier(sampling_params)
        if earlier is None:
            return generate(prompt, sampling_params, request_id, **more)
        whole = {**prompt, "prompt_token_ids": earlier.prompt + earlier.output}
        outputs = generate(whole, continued(sampling_params, earlier), request_id, **more)
        return _with_earlier(outputs, earlier)

    def add_primed(request: Any, *arguments: Any, **more: Any) -> None:
        add(request, *arguments, **more)
        count = ((request.sampling_params and request.sampling_params.extra_args) or {}).get(_COUNT)
        if count:
            _prime(
                processor.request_states[request.request_id], processor.tokenizer, request, count
            )

    engine.generate, processor.add_request = generate_on, add_primed


def take_earlier(sampling: Any) -> Earlier | None:
    """Take the lists out of sampling parameters; None if the request does not have them.

    Raises:
        VLLMValidationError: They are not token ids.
    """
    extra = getattr(sampling, "extra_args", None) or {}
    try:
        earlier = Earlier.read(extra)
    except ValueError as error:
        from vllm.exceptions import VLLMValidationError

        raise VLLMValidationError(str(error)) from error
    if earlier is not None:
        del extra[PROMPT], extra[OUTPUT]
    return earlier


def continued(sampling: Any, earlier: Earlier) -> Any:
    """Return the sampling parameters of what is left of a request."""
    count = len(earlier.output)
    sampling.max_tokens = max(1, sampling.max_tokens - count)
    sampling.min_tokens = max(0, sampling.min_tokens - count)
    if sampling.seed is not None and count:
        sampling.seed = seed_after(sampling.seed, count)
    sampling.extra_args = {**(sampling.extra_args or {}), _COUNT: count}
    return sampling


def seed_after(seed: int, tokens: int) -> int:
    """Return the seed for what follows after `tokens` output tokens.

    The first numbers of `seed` chose the tokens so far. If they chose the next ones too, these
    would depend on each other, and the output would not have the distribution of the model.
    """
    digest = hashlib.blake2b(f"{seed} {tokens}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


async def _with_earlier(outputs: AsyncIterator[Any], earlier: Earlier) -> AsyncIterator[Any]:
    """Yield the outputs; the first has the earlier tokens too."""
    is_first = True
    async for output in outputs:
        if output.num_cached_tokens is not None:
            output.num_cached_tokens = min(output.num_cached_tokens, len(earlier.prompt))
        new = output.outputs[0]
        if is_first:
            new.token_ids = [*earlier.output, *new.token_ids]
        is_first = False
        yield output


def _prime(state: Any, tokenizer: Any, request: Any, count: int) -> None:
    """Bring the state of a new request to where the earlier output ended."""
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer

    ids = request.prompt_token_ids
    prompt, output = ids[:-count], ids[-count:]
    state.prompt_token_ids, state.sent_tokens_offset = prompt, count
    if not request.sampling_params.detokenize:
        return
    asked = copy.copy(request)
    asked.prompt_token_ids = prompt
    detokenizer = IncrementalDetokenizer.from_new_request(tokenizer, asked)
    stop = getattr(detokenizer, "stop", [])
    detokenizer.stop = []  # an earlier engine would have stopped
    detokenizer.update(output, False)
    detokenizer.stop = stop
    if hasattr(detokenizer, "min_tokens"):
        detokenizer.min_tokens += count
    state.detokenizer = detokenizer
