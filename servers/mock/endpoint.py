"""State and routes of one mock endpoint, in the shapes of vLLM 0.32.

Invariants: an answer depends only on the seed, the prompt, the request's seed and the index of the choice; /pause holds
generations until /resume.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from servers.mock.answers import END_ID, answer, chat_text, conforming, decode, encode
from servers.mock.faults import CHAT, GENERATE, PLAN, RENDER, Fault, spoil

MAX_MODEL_LEN = 32768
Json = dict[str, Any]


class Settings(BaseModel):
    """How the endpoint behaves."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = "policy"
    seed: int = 0
    latency_s: float = Field(0.0, ge=0)
    accuracy: float = Field(0.5, ge=0, le=1)
    token_ids: bool = Field(True, description="False: a plain OpenAI endpoint, without token ids and vLLM's routes.")
    hide_token_ids: bool = Field(False, description="vLLM's routes are there, but chat answers carry no token ids.")
    raw_logprobs: bool = Field(False, description="Log-probabilities that ignore the temperature, as vLLM's default.")
    faults: list[Fault] = Field(default_factory=list)


class MockEndpoint:
    """State and routes of one endpoint."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._faults = [fault.model_copy() for fault in settings.faults]
        self._version = "default"
        self._running = asyncio.Event()
        self._running.set()
        self._requests: Counter[str] = Counter()
        self._faulted: Counter[str] = Counter()
        self._in_flight = self._max_in_flight = self._num_tokens = 0

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._counted], client_max_size=2**26)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post(CHAT, self._chat)
        app.router.add_get("/_mock/counters", self._counters)
        app.router.add_post("/_mock/faults", self._set_faults)
        if self._settings.token_ids:
            app.router.add_post(RENDER, self._render)
            app.router.add_post(GENERATE, self._generate)
            app.router.add_post("/collective_rpc", self._collective_rpc)
            app.router.add_post("/pause", self._pause)
            app.router.add_post("/resume", self._resume)
            app.router.add_get("/is_paused", self._is_paused)
            app.router.add_get("/weight_info", self._weight_info)
            app.router.add_post("/update_weight_version", self._update_weight_version)
            app.router.add_post("/reset_prefix_cache", self._reset_prefix_cache)
        return app

    @web.middleware
    async def _counted(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.path.startswith("/_mock/"):
            return await handler(request)
        self._requests[request.path] += 1
        self._in_flight += 1
        self._max_in_flight = max(self._max_in_flight, self._in_flight)
        try:
            fault = self._take_fault(request.path)
            return await (handler(request) if fault is None else self._fail(request, handler, fault))
        finally:
            self._in_flight -= 1

    def _take_fault(self, route: str) -> Fault | None:
        for fault in self._faults:
            if fault.route == route and fault.count > 0:
                fault.count -= 1
                self._faulted[fault.kind] += 1
                return fault
        return None

    async def _fail(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]], fault: Fault
    ) -> web.StreamResponse:
        if fault.kind == "status":
            headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else None
            return _error(fault.code, "seeded fault", headers)
        if fault.kind == "reset":
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("seeded fault")
        if fault.kind == "slow":
            await asyncio.sleep(fault.delay_s)
            return await handler(request)
        response = await handler(request)
        if not isinstance(response, web.Response) or response.status != 200 or response.text is None:
            return response
        if fault.kind == "truncated_json":
            return web.Response(text=response.text[: len(response.text) // 2], content_type="application/json")
        return web.json_response(spoil(json.loads(response.text), fault.kind))

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def _models(self, request: web.Request) -> web.Response:
        model = {"id": self._settings.model, "object": "model", "owned_by": "mock", "max_model_len": MAX_MODEL_LEN}
        return web.json_response({"object": "list", "data": [model]})

    async def _chat(self, request: web.Request) -> web.Response:
        body = await request.json()
        if (refusal := self._refusal(body)) is not None:
            return refusal
        prompt = chat_text(body["messages"])
        ids = encode(prompt)
        schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
        samples = await self._sample(prompt, body, body.get("max_tokens") or MAX_MODEL_LEN - len(ids), schema)
        with_ids = bool(body.get("return_token_ids")) and self._settings.token_ids and not self._settings.hide_token_ids
        temperature = 1.0 if self._settings.raw_logprobs else body.get("temperature") or 1.0
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": sample["text"]},
                "logprobs": {"content": _token_logprobs(sample, body.get("top_logprobs") or 0, temperature)}
                if body.get("logprobs")
                else None,
                "finish_reason": sample["finish_reason"],
                "token_ids": sample["token_ids"] if with_ids else None,
            }
            for index, sample in enumerate(samples)
        ]
        reply = {
            "id": "chatcmpl-mock",
            "object": "chat.completion",
            "created": 0,
            "model": self._settings.model,
            "choices": choices,
        }
        return web.json_response(reply | {"usage": _usage(ids, samples), "prompt_token_ids": ids if with_ids else None})

    async def _render(self, request: web.Request) -> web.Response:
        body = await request.json()
        if (refusal := self._refusal(body)) is not None:
            return refusal
        return web.json_response(
            {
                "request_id": "mock",
                "token_ids": encode(chat_text(body["messages"])),
                "sampling_params": {},
                "model": self._settings.model,
            }
        )

    async def _generate(self, request: web.Request) -> web.Response:
        body = await request.json()
        if (refusal := self._refusal(body)) is not None:
            return refusal
        ids, sampling = body["token_ids"], body["sampling_params"]
        samples = await self._sample(decode(ids), sampling, sampling.get("max_tokens") or 16, None)
        as_text = body.get("output_mode") == "text"
        choices = []
        for index, sample in enumerate(samples):
            content = _token_logprobs(sample) if as_text else _id_logprobs(sample)
            choice = {"index": index, "finish_reason": sample["finish_reason"], "token_ids": sample["token_ids"]}
            choice["weight_versions"] = [{"version": sample["version"], "start": 0, "end": len(sample["token_ids"])}]
            choice["logprobs"] = {"content": content} if sampling.get("logprobs") is not None else None
            choices.append(choice | ({"text": sample["text"]} if as_text else {}))
        return web.json_response(
            {
                "request_id": "mock",
                "model": self._settings.model,
                "usage": _usage(ids, samples),
                "prompt_token_ids": None,
                "choices": choices,
            }
        )

    async def _sample(self, prompt: str, sampling: Json, max_tokens: int, schema: Json | None) -> list[Json]:
        """`n` answers to `prompt`, after the latency and any pause."""
        await asyncio.sleep(self._settings.latency_s)
        await self._running.wait()
        greedy = sampling.get("temperature", 1.0) == 0
        samples = []
        for index in range(sampling.get("n") or 1):
            drawn = (
                (self._settings.seed, prompt) if greedy else (self._settings.seed, prompt, sampling.get("seed"), index)
            )
            rng = random.Random(repr(drawn))
            text = (
                json.dumps(conforming(schema, rng))
                if schema is not None
                else answer(prompt, rng, self._settings.accuracy)
            )
            token_ids = [*encode(text), END_ID][:max_tokens]
            logprobs = [-rng.random() for _ in token_ids]
            reason = "stop" if token_ids[-1] == END_ID else "length"
            samples.append(
                {
                    "text": decode(token_ids),
                    "token_ids": token_ids,
                    "logprobs": logprobs,
                    "finish_reason": reason,
                    "version": self._version,
                }
            )
            self._num_tokens += len(token_ids)
        return samples

    def _refusal(self, body: Json) -> web.Response | None:
        if body.get("model") not in (None, self._settings.model):
            return _error(404, f"The model `{body['model']}` does not exist. Valid aliases: {self._settings.model}.")
        return None

    async def _collective_rpc(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("method") == "refresh_packed_weights":
            return web.json_response({"results": [1]})
        folder = (body.get("kwargs") or {}).get("weights_path", "")
        if body.get("method") != "reload_weights" or not Path(folder).is_dir():
            return _error(500, f"Call to collective_rpc method failed: {body.get('method')} {folder!r}")
        return web.json_response({"results": [None]})

    async def _pause(self, request: web.Request) -> web.Response:
        self._running.clear()
        return web.json_response({"status": "paused"})

    async def _resume(self, request: web.Request) -> web.Response:
        self._running.set()
        return web.json_response({"status": "resumed"})

    async def _is_paused(self, request: web.Request) -> web.Response:
        return web.json_response({"is_paused": not self._running.is_set()})

    async def _weight_info(self, request: web.Request) -> web.Response:
        return web.json_response({"weight_version": self._version})

    async def _update_weight_version(self, request: web.Request) -> web.Response:
        self._version = (await request.json())["new_version"]
        return web.json_response({"success": True, "new_version": self._version})

    async def _reset_prefix_cache(self, request: web.Request) -> web.Response:
        return web.json_response({"success": True})

    async def _counters(self, request: web.Request) -> web.Response:
        numbers = {"in_flight": self._in_flight, "max_in_flight": self._max_in_flight, "num_tokens": self._num_tokens}
        return web.json_response({"requests": self._requests, "faults": self._faulted, **numbers})

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            self._faults = PLAN.validate_json(await request.read())
        except ValidationError as error:
            return _error(400, str(error))
        return web.json_response({"faults": len(self._faults)})


def _token_logprobs(sample: Json, num_top: int = 0, temperature: float = 1.0) -> list[Json]:
    """One entry per token. The top candidates are half a nat apart at temperature 1, and 1/T times that at T."""
    top = [{"token": str(rank), "logprob": -(0.1 + 0.5 * rank / temperature), "bytes": None} for rank in range(num_top)]
    pairs = zip(sample["token_ids"], sample["logprobs"], strict=True)
    return [
        {"token": decode([token]), "logprob": logprob, "bytes": None, "top_logprobs": top} for token, logprob in pairs
    ]


def _id_logprobs(sample: Json) -> list[Json]:
    pairs = zip(sample["token_ids"], sample["logprobs"], strict=True)
    return [{"token_id": token, "logprob": logprob, "rank": 1, "top_logprobs": []} for token, logprob in pairs]


def _usage(prompt_ids: list[int], samples: list[Json]) -> Json:
    num_sampled = sum(len(sample["token_ids"]) for sample in samples)
    return {
        "prompt_tokens": len(prompt_ids),
        "completion_tokens": num_sampled,
        "total_tokens": len(prompt_ids) + num_sampled,
    }


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(
        {"error": {"message": message, "type": "MockError", "code": status}}, status=status, headers=headers
    )
