"""A fake replica that answers as vLLM does, token by token, and dies where a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from tests.gateway.site import FakeReplica, ReceivedRequest, Site

PROMPT = [11, 12, 13]
TOKENS: tuple[tuple[int, str], ...] = (
    (101, "Gr"),
    (102, ""),  # the first byte of a character
    (103, "üß"),
    (104, ' "token_ids":[1] '),
    (105, "\n\\"),
    (106, ""),  # held back, for it may begin a stop string
    (107, " wind"),
    (108, "😀"),
    (109, "!"),
)
REASONED = 3
"""So many tokens are reasoning in a chat with it."""


@dataclass
class TokenReplica(FakeReplica):
    """Answers each stream with the same tokens.

    Attributes:
        lives: Events (and a half) after which it dies, for each request in turn; at the end of
            the list it lives.
        fails: How it dies: `cut` in the middle of an event, `end`s the response properly, with an
            `error` event, by an `abort`, or it `stall`s.
        refuses: So many requests get a 500 once the lives are over.
        reasons: Whether the first tokens are reasoning.
        created: Its clock.
        bodies: What it was asked.
        answers_whole: Whether it answers with its `status` and `body` instead.
        refused: Its reason, if it does so as the door of a site that refuses a call.
    """

    lives: list[int] = field(default_factory=list)
    fails: str = "cut"
    refuses: int = 0
    reasons: bool = False
    created: int = 1
    bodies: list[dict[str, Any]] = field(default_factory=list)
    answers_whole: bool = False
    refused: str = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.received.append(
            ReceivedRequest(request.method, request.raw_path, request.headers, raw)
        )
        await self.may_answer.wait()
        body = json.loads(raw)
        self.bodies.append(body)
        if self.answers_whole:
            headers = {"Content-Type": "application/json", "X-Replica": self.name}
            headers |= {"X-Steppe-Refused": self.refused} if self.refused else {}
            headers |= {"Location": self.location} if self.location else {}
            return web.Response(status=self.status, body=self.body, headers=headers)
        if self.stream:
            return await self._streamed(request)
        if not self.lives and self.refuses:
            self.refuses -= 1
            return web.json_response({"error": {"message": "dead", "code": 500}}, status=500)
        lives = self.lives.pop(0) if self.lives else None
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number, event in enumerate(self.events(request.path, body)):
            if number == lives:
                await self._die(request, response, event)
                return response
            await response.write(event)
        return response

    async def _die(self, request: web.Request, response: web.StreamResponse, event: bytes) -> None:
        match self.fails:
            case "cut":
                await response.write(event[: len(event) // 2])
                assert request.transport is not None
                request.transport.abort()
            case "stall":
                await asyncio.Event().wait()
            case "error":
                error = b'{"error":{"message":"dead","type":"InternalServerError","code":500}}'
                await response.write(b"data: " + error + b"\n\ndata: [DONE]\n\n")
            case "abort":
                aborted = event.replace(b'"finish_reason":null', b'"finish_reason":"abort"')
                await response.write(aborted + b"data: [DONE]\n\n")

    def events(self, path: str, body: dict[str, Any]) -> Iterable[bytes]:
        is_chat = path.endswith("chat/completions")
        wants_ids = body.get("return_token_ids") is True
        extra = body.get("vllm_xargs") or {}
        earlier = extra.get("steppe_output", [])
        assert extra.get("steppe_prompt", PROMPT) == PROMPT
        assert earlier == [token for token, _ in TOKENS[: len(earlier)]]
        if is_chat:
            choice = {"index": 0, "delta": {"role": "assistant", "content": ""}}
            choice |= {"logprobs": None, "finish_reason": None}
            ids = {"prompt_token_ids": PROMPT if wants_ids else None, "prompt_text": None}
            yield self._event(is_chat, [choice], **ids)
        parts = [(TOKENS[: len(earlier) + 1]), *((one,) for one in TOKENS[len(earlier) + 1 :])]
        sent = 0
        for number, part in enumerate(parts):
            sent += len(part)
            choice = self._choice(is_chat, part, sent)
            choice["finish_reason"] = "stop" if sent == len(TOKENS) else None
            if sent == len(TOKENS) or not is_chat:
                choice["stop_reason"] = None
            if not is_chat:
                first = number == 0 and wants_ids
                choice["prompt_token_ids"] = PROMPT if first else None
            choice["token_ids"] = [token for token, _ in part] if wants_ids else None
            yield self._event(is_chat, [choice])
        if (body.get("stream_options") or {}).get("include_usage"):
            prompt, output = len(PROMPT), len(TOKENS)
            usage = {"prompt_tokens": prompt, "total_tokens": prompt + output}
            yield self._event(is_chat, [], usage=usage | {"completion_tokens": output})
        yield b"data: [DONE]\n\n"

    def _choice(self, is_chat: bool, part: Iterable[tuple[int, str]], sent: int) -> dict[str, Any]:
        text = "".join(piece for _, piece in part)
        if not is_chat:
            return {"index": 0, "text": text, "logprobs": None}
        if not self.reasons:
            delta = {"content": text}
        else:
            first = sent - len(list(part))
            before = "".join(piece for _, piece in TOKENS[first : min(sent, REASONED)])
            delta = {"reasoning": before} if before else {}
            after = "".join(piece for _, piece in TOKENS[max(first, REASONED) : sent])
            delta |= {"content": after} if after else {}
        return {"index": 0, "delta": delta, "logprobs": None}

    def _event(self, is_chat: bool, choices: list[dict[str, Any]], **more: Any) -> bytes:
        kind = "chat.completion.chunk" if is_chat else "text_completion"
        event = {"id": "cmpl-1", "object": kind, "created": self.created, "model": "m"}
        event |= {"choices": choices, **more}
        text = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
        return b"data: " + text.encode() + b"\n\n"


async def token_replica(site: Site, name: str, **settings: Any) -> TokenReplica:
    """Start a replica that a site stops."""
    replica = TokenReplica(name, **settings)
    replica.may_answer.set()
    await replica.start()
    site.stack.push_async_callback(replica.stop)
    return replica
