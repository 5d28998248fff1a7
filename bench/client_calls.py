"""What each client of `clients.py` calls; it runs in the environment of that client.

    OPENAI_API_KEY=KEY python bench/client_calls.py openai http://HOST:PORT MODEL

Its last line is a JSON object: the results of the calls, or the status and the class of the error.
It imports nothing of Steppe, and each client is used as its own documentation shows it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ASKED: list[Any] = [{"role": "user", "content": "The wind comes over the steppe"}]
TOKENS = 8
PROMPTS = 20

Results = dict[str, Any]


def openai_client(url: str, model: str) -> Results:
    """List models, read whole answers and streams, and ask for token counts in a stream."""
    import openai

    with openai.OpenAI(base_url=f"{url}/v1", max_retries=0) as client:
        listed = [entry.id for entry in client.models.list()]
        whole = client.chat.completions.create(model=model, messages=ASKED, max_tokens=TOKENS)
        assert whole.usage is not None
        options: Any = {"include_usage": True}
        chunks = list(
            client.chat.completions.create(
                model=model, messages=ASKED, max_tokens=TOKENS, stream=True, stream_options=options
            )
        )
        text = client.completions.create(model=model, prompt="The wind", max_tokens=TOKENS)
        usage = chunks[-1].usage
        return {
            "version": version("openai"),
            "models": listed,
            "whole_tokens": whole.usage.completion_tokens,
            "stream_tokens": None if usage is None else usage.completion_tokens,
            "stream_text": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
            "completion": bool(text.choices[0].text),
        }


def litellm_client(url: str, model: str) -> Results:
    """Read a whole answer and a stream through LiteLLM's provider of compatible servers."""
    import litellm

    asked: Any = {
        "model": f"openai/{model}",
        "api_base": f"{url}/v1",
        "messages": ASKED,
        "max_tokens": TOKENS,
        "num_retries": 0,
    }
    whole = litellm.completion(**asked)
    chunks = list(litellm.completion(**asked, stream=True, stream_options={"include_usage": True}))
    usages = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    return {
        "version": version("litellm"),
        "whole_tokens": whole.usage.completion_tokens,
        "stream_tokens": usages[-1].completion_tokens if usages else None,
        "stream_text": "".join(c.choices[0].delta.content or "" for c in chunks if c.choices),
    }


def langchain_client(url: str, model: str) -> Results:
    """Invoke a chat model and stream from it."""
    from langchain_openai import ChatOpenAI

    asked: Any = {"base_url": f"{url}/v1", "max_tokens": TOKENS, "max_retries": 0}
    chat = ChatOpenAI(model=model, stream_usage=True, **asked)
    whole = chat.invoke(ASKED[0]["content"])
    chunks = list(chat.stream(ASKED[0]["content"]))
    usages = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    return {
        "version": version("langchain-openai"),
        "whole_tokens": (whole.usage_metadata or {}).get("output_tokens"),
        "stream_tokens": sum(usage["output_tokens"] for usage in usages),
        "stream_text": "".join(str(chunk.content) for chunk in chunks),
    }


def vllm_client(url: str, model: str) -> Results:
    """Run the functions of `vllm bench serve`; the package for CPUs has no working command."""
    import vllm
    from vllm.benchmarks.serve import add_cli_args, main

    with TemporaryDirectory() as folder:
        parser = argparse.ArgumentParser()
        add_cli_args(parser)
        arguments = [
            *("--backend", "openai-chat", "--endpoint", "/v1/chat/completions"),
            *("--base-url", url, "--model", model, "--tokenizer", os.environ["CLIENT_TOKENIZER"]),
            *("--dataset-name", "random", "--random-input-len", "32"),
            *("--random-output-len", str(TOKENS), "--num-prompts", str(PROMPTS)),
            *("--ready-check-timeout-sec", "0", "--disable-tqdm"),
            *("--save-result", "--save-detailed"),
            *("--result-dir", folder, "--result-filename", "found.json"),
        ]
        main(parser.parse_args(arguments))
        found = json.loads((Path(folder) / "found.json").read_text())
    errors = [error for error in found.get("errors", ()) if error]
    return {
        "version": vllm.__version__,
        "completed": found["completed"],
        "failed": found.get("failed", len(errors)),
        "output_tokens": found["total_output_tokens"],
        "error": errors[0][:200] if errors else "",
    }


CLIENTS: dict[str, Callable[[str, str], Results]] = {
    "openai": openai_client,
    "litellm": litellm_client,
    "langchain-openai": langchain_client,
    "vllm": vllm_client,
}


def main_() -> None:
    """Call one client, and print what came of it."""
    name, url, model = sys.argv[1:]
    try:
        found = CLIENTS[name](url, model)
    except Exception as error:  # noqa: BLE001 - each client has error classes of its own
        status = getattr(error, "status_code", None)
        found = {"status": status, "error": type(error).__name__, "message": str(error)[:300]}
    print(json.dumps(found))


if __name__ == "__main__":
    main_()
