"""`python -m servers.mock`: an OpenAI-compatible endpoint with vLLM's further routes and seeded faults.

It measures clients and provokes failures; it proves nothing about learning. Invariants: an answer depends only on the seed, the
prompt, the request's seed and the index of the choice; a fault hits exactly `count` requests of its route; a token is a byte
of UTF-8 (id = byte + 3, end of text = 2), so that text and ids agree without a tokenizer; /pause holds generations until /resume.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

HOST = "127.0.0.1"
END_ID = 2
BYTE_OFFSET = 3
MAX_MODEL_LEN = 32768
CHAT, RENDER, GENERATE = "/v1/chat/completions", "/v1/chat/completions/render", "/inference/v1/generate"
Json = dict[str, Any]
Kind = Literal[
    "status", "reset", "truncated_json", "choices_null", "empty_choices", "missing_logprobs", "wrong_lengths", "abort", "slow"
]


class Fault(BaseModel):
    """What goes wrong with the next `count` requests of `route`."""

    model_config = ConfigDict(extra="forbid")
    route: str = CHAT
    kind: Kind
    count: int = Field(1, ge=1)
    code: int = Field(503, description="status: the HTTP status.")
    retry_after: str | None = Field(None, description="status: the Retry-After header.")
    delay_s: float = Field(1.0, ge=0, description="slow: seconds before the answer.")


FAULTS = TypeAdapter(list[Fault])


class Settings(BaseModel):
    """How the endpoint behaves."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str = "policy"
    seed: int = 0
    latency_s: float = Field(0.0, ge=0)
    accuracy: float = Field(0.5, ge=0, le=1)
    token_ids: bool = Field(True, description="False: a plain OpenAI endpoint, without token ids and vLLM's routes.")
    faults: list[Fault] = Field(default_factory=list)


def seeded_faults(seed: int, num_faults: int = 20) -> list[Fault]:
    """A plan of single faults over the two generating routes, the same for the same seed."""
    rng = random.Random(seed)
    kinds = TypeAdapter(Kind).json_schema()["enum"]
    return [Fault(route=rng.choice((CHAT, GENERATE)), kind=rng.choice(kinds), delay_s=0.05) for _ in range(num_faults)]


def encode(text: str) -> list[int]:
    return [byte + BYTE_OFFSET for byte in text.encode()]


def decode(token_ids: list[int]) -> str:
    return bytes(token - BYTE_OFFSET for token in token_ids if BYTE_OFFSET <= token < BYTE_OFFSET + 256).decode(errors="replace")


def chat_text(messages: list[Json]) -> str:
    """ChatML, as the embedded model's template writes it."""
    turns = "".join(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages)
    return turns + "<|im_start|>assistant\n"


def calculate(expression: str) -> int:
    """Value of whole numbers joined by +, - and *."""
    total, sign = 0, 1
    for term in re.findall(r"[-+]|[^-+]+", expression.replace(" ", "")):
        if term in "+-":
            sign = sign if term == "+" else -sign
            continue
        product = 1
        for factor in term.split("*"):
            product *= int(factor)
        total, sign = total + sign * product, 1
    return total


def answer(prompt: str, rng: random.Random, accuracy: float) -> str:
    """An answer to the prompt's last sum, right with probability `accuracy`; an empty box when there is none."""
    sums = re.findall(r"\d+(?:\s*[-+*]\s*\d+)+", prompt)
    if not sums:
        return "I do not know. The answer is \\boxed{}."
    value = calculate(sums[-1]) + (0 if rng.random() < accuracy else rng.randint(1, 9))
    return f"{sums[-1]} = {value}. The answer is \\boxed{{{value}}}."


def conforming(schema: Json, rng: random.Random, root: Json | None = None) -> Any:
    """A value that a JSON schema accepts: bounds of strings, arrays and numbers, enums, references and unions."""
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return conforming(target, rng, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return conforming(schema[union][0], rng, root)
    match schema.get("type", "object"):
        case "object":
            return {name: conforming(item, rng, root) for name, item in schema.get("properties", {}).items()}
        case "array":
            return [conforming(schema.get("items", {"type": "string"}), rng, root) for _ in range(max(1, schema.get("minItems", 1)))]
        case "string":
            words = "Check each step before the final answer and keep the signs apart".split()
            text = " ".join(rng.choice(words) for _ in range(6)).ljust(schema.get("minLength", 0), ".")
            return text[: schema.get("maxLength", len(text))]
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return rng.random() < 0.5
        case _:
            return None


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
        with_ids = bool(body.get("return_token_ids")) and self._settings.token_ids
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": sample["text"]},
                "logprobs": {"content": _token_logprobs(sample)} if body.get("logprobs") else None,
                "finish_reason": sample["finish_reason"],
                "token_ids": sample["token_ids"] if with_ids else None,
            }
            for index, sample in enumerate(samples)
        ]
        reply = {"id": "chatcmpl-mock", "object": "chat.completion", "created": 0, "model": self._settings.model, "choices": choices}
        return web.json_response(reply | {"usage": _usage(ids, samples), "prompt_token_ids": ids if with_ids else None})

    async def _render(self, request: web.Request) -> web.Response:
        body = await request.json()
        if (refusal := self._refusal(body)) is not None:
            return refusal
        return web.json_response(
            {"request_id": "mock", "token_ids": encode(chat_text(body["messages"])), "sampling_params": {}, "model": self._settings.model}
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
            {"request_id": "mock", "model": self._settings.model, "usage": _usage(ids, samples), "prompt_token_ids": None, "choices": choices}
        )

    async def _sample(self, prompt: str, sampling: Json, max_tokens: int, schema: Json | None) -> list[Json]:
        """`n` answers to `prompt`, after the latency and any pause."""
        await asyncio.sleep(self._settings.latency_s)
        await self._running.wait()
        greedy = sampling.get("temperature", 1.0) == 0
        samples = []
        for index in range(sampling.get("n") or 1):
            drawn = (self._settings.seed, prompt) if greedy else (self._settings.seed, prompt, sampling.get("seed"), index)
            rng = random.Random(repr(drawn))
            text = json.dumps(conforming(schema, rng)) if schema is not None else answer(prompt, rng, self._settings.accuracy)
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
            self._faults = FAULTS.validate_json(await request.read())
        except ValidationError as error:
            return _error(400, str(error))
        return web.json_response({"faults": len(self._faults)})


def spoil(reply: Json, kind: Kind) -> Json:
    """`reply` with one promise of its route broken."""
    if kind == "choices_null":
        return reply | {"choices": None}
    if kind == "empty_choices":
        return reply | {"choices": []}
    for choice in reply.get("choices") or []:
        if kind == "missing_logprobs":
            choice["logprobs"] = None
        elif kind == "wrong_lengths" and choice.get("logprobs"):
            choice["logprobs"]["content"].pop()
        elif kind == "abort":
            choice["finish_reason"] = "abort"
    return reply


def _token_logprobs(sample: Json) -> list[Json]:
    pairs = zip(sample["token_ids"], sample["logprobs"], strict=True)
    return [{"token": decode([token]), "logprob": logprob, "bytes": None, "top_logprobs": []} for token, logprob in pairs]


def _id_logprobs(sample: Json) -> list[Json]:
    pairs = zip(sample["token_ids"], sample["logprobs"], strict=True)
    return [{"token_id": token, "logprob": logprob, "rank": 1, "top_logprobs": []} for token, logprob in pairs]


def _usage(prompt_ids: list[int], samples: list[Json]) -> Json:
    num_sampled = sum(len(sample["token_ids"]) for sample in samples)
    return {"prompt_tokens": len(prompt_ids), "completion_tokens": num_sampled, "total_tokens": len(prompt_ids) + num_sampled}


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "MockError", "code": status}}, status=status, headers=headers)


async def serve(settings: Settings, port: int) -> None:
    """Serve until cancelled; print the address once connections are accepted."""
    runner = web.AppRunner(MockEndpoint(settings).application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port, backlog=4096).start()
        print(f"http://{HOST}:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m servers.mock", description="A mock OpenAI-compatible endpoint with faults.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: a free one, printed")
    parser.add_argument("--model", default="policy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency-s", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--accuracy", type=float, default=0.5, help="probability of a right answer to a sum")
    parser.add_argument("--no-token-ids", action="store_true", help="a plain OpenAI endpoint, without vLLM's additions")
    parser.add_argument("--faults", default="", help="JSON file with a list of faults, or a seed for twenty random ones")
    arguments = parser.parse_args(argv)
    try:
        faults = _faults(arguments.faults)
        settings = Settings(
            model=arguments.model, seed=arguments.seed, latency_s=arguments.latency_s, accuracy=arguments.accuracy,
            token_ids=not arguments.no_token_ids, faults=faults,
        )  # fmt: skip
    except (OSError, ValidationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        asyncio.run(serve(settings, arguments.port))
    except KeyboardInterrupt:
        pass  # the usual way to end it
    return 0


def _faults(spec: str) -> list[Fault]:
    if not spec:
        return []
    return seeded_faults(int(spec)) if spec.isdigit() else FAULTS.validate_json(Path(spec).read_bytes())


if __name__ == "__main__":
    sys.exit(main())
