"""Endpoints that a test scripts, and how any application is served on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from aiohttp import web

Json = dict[str, Any]


@asynccontextmanager
async def serving(application: web.Application, port: int = 0) -> AsyncIterator[str]:
    """The application on loopback; its address."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def completion(text: str = "\\boxed{7}", num_prompt_tokens: int = 10, **choice: Any) -> Json:
    """A good reply of five tokens, but for what `choice` changes of its only choice."""
    choices = [
        {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"} | choice,
    ]
    usage = {"prompt_tokens": num_prompt_tokens, "completion_tokens": 5}
    return {"object": "chat.completion", "choices": choices, "usage": usage}


class ScriptedEndpoint:
    """An OpenAI-compatible endpoint that serves `model`; subclasses answer its chat requests."""

    model: ClassVar = "scripted"
    prefix: ClassVar = ""

    def application(self) -> web.Application:
        app = web.Application()
        chat = web.post(f"{self.prefix}/v1/chat/completions", self._chat)
        app.add_routes([web.get(f"{self.prefix}/v1/models", self._models), chat])
        return app

    async def _models(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [{"id": self.model}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError
