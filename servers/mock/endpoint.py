"""State and routes of one mock endpoint, in the shapes of OpenAI's API and of vLLM 0.32.

Invariants: an answer depends only on the seed, the prompt, the request's seed and the index of the choice; /pause holds
generations until /resume; every request is counted, those of /_mock/ excepted.

| waits        | for                                  | woken by                  |
|--------------|--------------------------------------|---------------------------|
| a generation | its latency; the end of a pause      | the clock; /resume        |
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

from servers.mock.answers import chat_text, decode, encode
from servers.mock.control import Control
from servers.mock.counters import Counters
from servers.mock.faults import CHAT, GENERATE, PLAN, RENDER, Fault, FaultRate, Flap
from servers.mock.generation import Generator, Sample, id_logprobs, token_logprobs, usage
from servers.mock.misbehaviour import Handler, Json, error, fail, replying
from servers.mock.settings import MAX_MODEL_LEN, Settings
from servers.web import embeddings

COMPLETIONS, EMBEDDINGS = "/v1/completions", "/v1/embeddings"
GENERATING = (CHAT, GENERATE, COMPLETIONS)
EMBEDDING_SIZE = 384


class MockEndpoint:
    """State and routes of one endpoint."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._faults = [fault.model_copy() for fault in settings.faults]
        self._rate = settings.fault_rate
        self._flap = settings.flap
        self._begin_s = time.monotonic()
        self._counters = Counters()
        self._control = Control(settings.max_lora_rank)
        self._generator = Generator(self._control, settings)

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._counted], client_max_size=2**26)
        app.add_routes(
            [
                *(web.get(path, replying(lambda: {"version": "mock"})) for path in ("/health", "/ping", "/version")),
                web.get("/v1/models", replying(self._models)),
                web.post(CHAT, self._with_body(self._chat)),
                web.post(COMPLETIONS, self._with_body(self._completions)),
                web.post(EMBEDDINGS, self._with_body(self._embeddings)),
                web.get("/_mock/counters", replying(lambda: self._counters.as_dict())),
                web.post("/_mock/counters/reset", replying(self._reset_counters)),
                web.post("/_mock/faults", self._set_faults),
                web.post("/_mock/flap", self._set_flap),
                web.post("/_mock/crash", replying(self._control.crash)),
            ]
        )
        if self._settings.token_ids:
            app.add_routes(
                [
                    web.post(RENDER, self._with_body(self._render)),
                    web.post(GENERATE, self._with_body(self._generate)),
                    *self._control.routes(),
                ]
            )
        return app

    # What every request goes through

    @web.middleware
    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/_mock/"):
            return await handler(request)
        counters, response = self._counters, None
        counters.begin(request)
        generating = request.path in GENERATING
        if generating:
            self._control.generating[id(request)] = request
            counters.num_unverified += not self._control.verified
        try:
            response = await self._answer(request, handler, generating)
            return response
        finally:
            self._control.generating.pop(id(request), None)
            counters.end(request, response)

    async def _answer(self, request: web.Request, handler: Handler, generating: bool) -> web.StreamResponse:
        settings = self._settings
        if self._flap is not None and self._flap.down(time.monotonic() - self._begin_s):
            self._counters.faults["flap"] += 1
            kind = {"reset": "reset", "status": "status", "hang": "black_hole"}[self._flap.how]
            return await fail(request, handler, Fault(kind=kind))
        guarded = request.path.startswith(("/v1", "/inference"))
        if settings.api_key and guarded and request.headers.get("Authorization") != f"Bearer {settings.api_key}":
            return error(401, "Unauthorized")
        if settings.max_concurrency and generating and len(self._control.generating) > settings.max_concurrency:
            self._counters.faults["over_concurrency"] += 1
            return error(429, "too many requests at once", {"Retry-After": "0.1"})
        fault = self._fault_of(request.path)
        return await (handler(request) if fault is None else fail(request, handler, fault))

    def _fault_of(self, route: str) -> Fault | None:
        fault = next((fault for fault in self._faults if fault.route == route and fault.count > 0), None)
        if fault is not None:
            fault.count -= 1
        elif self._rate is not None:
            fault = self._rate.at(route, self._counters.requests[route])
        if fault is not None:
            self._counters.faults[fault.kind] += 1
        return fault

    def _with_body(self, handler: Callable[[web.Request, Json], Awaitable[web.StreamResponse]]) -> Handler:
        """`handler` of a request and its body, which is called unless the body is refused."""

        async def handle(request: web.Request) -> web.StreamResponse:
            body = orjson.loads(await request.read())
            refusal = self._refusal(body)
            return await handler(request, body) if refusal is None else refusal

        return handle

    # OpenAI's routes

    def _models(self) -> Json:
        settings = self._settings
        head = {"object": "model", "created": 0, "owned_by": "mock"}
        root = {"root": settings.root} if settings.root else {}
        model = {**head, **root, "id": settings.model, "max_model_len": settings.max_model_len}
        adapters = [
            {**head, "id": name, "root": str(adapter.folder), "parent": settings.model}
            for name, adapter in self._control.adapters.items()
        ]
        return {"object": "list", "data": [model, *adapters]}

    async def _chat(self, request: web.Request, body: Json) -> web.StreamResponse:
        prompt = chat_text(body["messages"])
        ids = encode(prompt)
        max_tokens = body.get("max_tokens") or body.get("max_completion_tokens") or MAX_MODEL_LEN - len(ids)
        schema = ((body.get("response_format") or {}).get("json_schema") or {}).get("schema")
        if body.get("stream"):
            return await self._stream(request, body, prompt, max_tokens, schema, "chat.completion.chunk")
        samples = await self._samples(prompt, body, max_tokens, schema)
        with_ids = bool(body.get("return_token_ids")) and self._settings.token_ids and not self._settings.hide_token_ids
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": sample.text},
                "logprobs": self._logprobs(sample, body),
                "finish_reason": sample.finish_reason,
                "token_ids": sample.token_ids if with_ids else None,
            }
            for index, sample in enumerate(samples)
        ]
        reply = self._reply("chat.completion", choices, len(ids), samples)
        return _json({**reply, "prompt_token_ids": ids if with_ids else None})

    async def _completions(self, request: web.Request, body: Json) -> web.StreamResponse:
        if body.get("prompt_logprobs"):
            return self._prompt_logprobs(body["prompt"], body.get("model"))
        prompt = body["prompt"] if isinstance(body["prompt"], str) else decode(body["prompt"])
        if body.get("stream"):
            return await self._stream(request, body, prompt, body.get("max_tokens") or 16, None, "text_completion")
        samples = await self._samples(prompt, body, body.get("max_tokens") or 16, None)
        choices = [
            {"index": index, "text": sample.text, "logprobs": None, "finish_reason": sample.finish_reason}
            for index, sample in enumerate(samples)
        ]
        return _json(self._reply("text_completion", choices, len(encode(prompt)), samples))

    def _prompt_logprobs(self, prompts: list[list[int]], model: str | None) -> web.Response:
        """What the weights of `model` give token sequences: those of their canary are known, any other token gets
        -1."""
        adapter = self._control.adapters.get(model or "")
        canary = adapter.canary if adapter else self._control.canary
        sequences = canary.sequences if canary else ()
        known = {sequence.token_ids: sequence.logprobs for sequence in sequences}
        choices = []
        for index, ids in enumerate(prompts):
            logprobs = known.get(tuple(ids), (-1.0,) * (len(ids) - 1))
            positions = [{str(i): {"logprob": value}} for i, value in zip(ids[1:], logprobs, strict=True)]
            choices.append(
                {"index": index, "text": "", "finish_reason": "length", "prompt_logprobs": [None, *positions]}
            )
        return _json(self._reply("text_completion", choices, sum(map(len, prompts)), []))

    async def _embeddings(self, request: web.Request, body: Json) -> web.Response:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        vectors = [unit_vector(str(text), body.get("dimensions") or EMBEDDING_SIZE) for text in texts]
        num_tokens = sum(len(encode(str(text))) for text in texts)
        return _json(embeddings(self._settings.model, vectors, num_tokens, body.get("encoding_format")))

    async def _stream(
        self, request: web.Request, body: Json, prompt: str, max_tokens: int, schema: Json | None, kind: str
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        head = {"id": "mock", "object": kind, "created": 0, "model": self._settings.model}
        sample = None
        async for sample, index in self._generator.stream(prompt, body, max_tokens, schema):
            text = decode([sample.token_ids[index]])
            last = index + 1 == len(sample.token_ids)
            choice: Json = {"index": 0, "finish_reason": sample.finish_reason if last else None}
            choice |= {"text": text} if kind == "text_completion" else {"delta": {"role": "assistant", "content": text}}
            await response.write(b"data: " + orjson.dumps({**head, "choices": [choice]}) + b"\n\n")
        if (body.get("stream_options") or {}).get("include_usage"):
            counted = usage(len(encode(prompt)), [sample] if sample else [])
            await response.write(b"data: " + orjson.dumps({**head, "choices": [], "usage": counted}) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        self._counters.num_tokens += len(sample.token_ids) if sample else 0
        return response

    # vLLM's token-in/token-out routes

    async def _render(self, request: web.Request, body: Json) -> web.Response:
        ids = encode(chat_text(body["messages"]))
        return _json({"request_id": "mock", "token_ids": ids, "sampling_params": {}, "model": self._settings.model})

    async def _generate(self, request: web.Request, body: Json) -> web.Response:
        ids, sampling = body["token_ids"], body["sampling_params"]
        samples = await self._samples(decode(ids), sampling, sampling.get("max_tokens") or 16, None)
        as_text = body.get("output_mode") == "text"
        logprobs_of = token_logprobs if as_text else id_logprobs
        choices = [
            {
                "index": index,
                "finish_reason": sample.finish_reason,
                "token_ids": sample.token_ids,
                "weight_versions": sample.versions,
                "logprobs": {"content": logprobs_of(sample)} if sampling.get("logprobs") is not None else None,
                **({"text": sample.text} if as_text else {}),
            }
            for index, sample in enumerate(samples)
        ]
        reply = {"request_id": "mock", "model": self._settings.model, "usage": usage(len(ids), samples)}
        return _json({**reply, "prompt_token_ids": None, "choices": choices})

    async def _samples(self, prompt: str, sampling: Json, max_tokens: int, schema: Json | None) -> list[Sample]:
        samples = await self._generator.sample(prompt, sampling, max_tokens, schema)
        self._counters.num_tokens += sum(len(sample.token_ids) for sample in samples)
        return samples

    def _logprobs(self, sample: Sample, body: Json) -> Json | None:
        if not body.get("logprobs"):
            return None
        temperature = 1.0 if self._settings.raw_logprobs else body.get("temperature") or 1.0
        return {"content": token_logprobs(sample, body.get("top_logprobs") or 0, temperature)}

    def _reply(self, kind: str, choices: list[Json], num_prompt: int, samples: list[Sample]) -> Json:
        head = {"id": "mock", "object": kind, "created": 0, "model": self._settings.model}
        return {**head, "choices": choices, "usage": usage(num_prompt, samples)}

    def _refusal(self, body: Json) -> web.Response | None:
        if body.get("model") not in (None, self._settings.model, *self._control.adapters):
            return error(404, f"The model `{body['model']}` does not exist. Valid aliases: {self._settings.model}.")
        for name in self._settings.refused:
            if body.get(name) is not None:
                instead = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
                return error(400, f"Unsupported parameter: '{name}' is not supported with this model.{instead}")
        for name in ("temperature", "top_p", "max_tokens", "n"):
            if body.get(name) is not None and not isinstance(body[name], int | float):
                return error(400, f"{name}: Input should be a valid number, not {body[name]!r}")
        return None

    # The mock's own routes

    def _reset_counters(self) -> Json:
        self._counters = Counters(self._counters.in_flight)
        return {}

    async def _set_faults(self, request: web.Request) -> web.Response:
        """A list of faults, or {"rate": FaultRate}; what was planned before is forgotten."""
        content = await request.read()
        try:
            if content.lstrip().startswith(b"{"):
                self._faults, self._rate = [], FaultRate.model_validate(orjson.loads(content)["rate"])
            else:
                self._faults, self._rate = PLAN.validate_json(content), None
        except (ValidationError, KeyError) as problem:
            return error(400, str(problem))
        return web.json_response({"faults": len(self._faults)})

    async def _set_flap(self, request: web.Request) -> web.Response:
        """A Flap, its period counted from now; null: never down."""
        content = await request.json()
        try:
            self._flap = None if content is None else Flap.model_validate(content)
        except ValidationError as problem:
            return error(400, str(problem))
        self._begin_s = time.monotonic()
        return web.json_response({})


def unit_vector(text: str, size: int) -> list[float]:
    """A direction that depends on the text alone."""
    rng = random.Random(text)
    vector = [rng.gauss(0, 1) for _ in range(size)]
    norm = math.hypot(*vector)
    return [value / norm for value in vector]


def _json(body: Any) -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type="application/json")
