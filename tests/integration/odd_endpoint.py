"""Endpoints that answer and are of no use: /KIND/v1/models, /KIND/v1/chat/completions.

`KINDS` says what each of them answers to a chat request, and a word of the reason that the user has to read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, NamedTuple

from aiohttp import web

from tests.scripted_endpoint import Json, ScriptedEndpoint, completion

MODEL = "odd"


class Odd(NamedTuple):
    """What a chat request is answered with (None: the connection is cut), and a word of the reason that has to be on
    the terminal."""

    answer: Callable[[], web.StreamResponse] | None
    reason: str


def _json(reply: Any, reason: str, status: int = 200, headers: Json | None = None) -> Odd:
    return Odd(lambda: web.json_response(reply, status=status, headers=headers), reason)


def _error(message: str, status: int = 200, code: Any = None, headers: Json | None = None) -> Odd:
    body = {"error": {"message": message, "type": "some_error", "code": code}}
    return _json(body, message, status, headers)


def _raw(body: bytes, content_type: str, reason: str) -> Odd:
    return Odd(lambda: web.Response(body=body, headers={"Content-Type": content_type}), reason)


_EVENT = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "7"}}]}).encode() + b"\n\n"
KINDS: dict[str, Odd] = {
    "error_200": _error("upstream provider returned an error", code=502),
    "error_200_without_code": _error("the model crashed"),
    "error_200_as_text": _json({"error": "CUDA out of memory"}, "CUDA out of memory"),
    "error_200_quota": _error("insufficient credits", code=402),
    "message_200": _json({"message": "model is loading"}, "model is loading"),
    "finish_null": _json(completion(finish_reason=None), "finish_reason is None"),
    "finish_empty": _json(completion(finish_reason=""), "finish_reason is ''"),
    "finish_unknown": _json(completion(finish_reason="tired"), "finish_reason is 'tired'"),
    "finish_abort": _json(completion(finish_reason="abort"), "finish_reason is 'abort'"),
    "tool_calls": _json(completion(finish_reason="tool_calls"), "finish_reason is 'tool_calls'"),
    "html": _raw(b"<html>log in</html>", "text/html", "<html>log in</html>"),
    "nan": _raw(b'{"choices": [], "score": NaN}', "application/json", "answers no JSON"),
    "latin_1": _raw('{"choices": "Größe"}'.encode("latin-1"), "application/json", "answers no JSON"),
    "cut_json": _raw(json.dumps(completion()).encode()[:60], "application/json", "answers no JSON"),
    "empty_body": _raw(b"", "application/json", "answers no JSON"),
    "events_unasked": _raw(_EVENT + b"data: [DONE]\n\n", "text/event-stream", "text/event-stream"),
    "choices_null": _json(completion() | {"choices": None}, "choices in the reply: None"),
    "choices_empty": _json(completion() | {"choices": []}, "choices in the reply: 0"),
    "choices_two": _json(completion() | {"choices": completion()["choices"] * 2}, "choices in the reply: 2"),
    "no_object": _json([completion()], "choices in the reply: None"),
    "json_null": _json(None, "choices in the reply: None"),
    "json_text": _json("busy", "it begins busy"),
    "json_number": _json(7, "it begins 7"),
    "choice_text": _json(completion() | {"choices": ["7"]}, "a choice is no object"),
    "finish_number": _json(completion(finish_reason=3), "finish_reason is 3"),
    "content_number": _json(completion(message={"role": "assistant", "content": 7}), "no message content"),
    "xml": _raw(b"<?xml version='1.0'?><error/>", "text/xml", "text/xml"),
    "gzip_garbage": Odd(
        lambda: web.Response(body=b"no gzip at all", headers={"Content-Encoding": "gzip"}), "Can not decode"
    ),
    "connection_cut": Odd(None, "ServerDisconnectedError"),
    "redirect": _json({}, "HTTP 308", 308, {"Location": "/elsewhere"}),
    "wrong_method": _json({"detail": "Method Not Allowed"}, "Method Not Allowed", 405),
    "unprocessable": _json({"detail": "a field is missing"}, "a field is missing", 422),
    "overloaded": _error("Overloaded", 529),
    "message_null": _json(completion(message=None), "no message content"),
    "content_null": _json(completion(message={"role": "assistant", "content": None}), "no message content"),
    "unauthorized": _error("Incorrect API key provided", 401),
    "no_credit": _error("Insufficient credits", 402),
    "no_route": _json({"detail": "Not Found"}, "Not Found", 404),
    "busy": _error("slow down", 429),
    "daily_limit": _error("daily limit reached", 429, headers={"Retry-After": "86400"}),
    "crashed": _error("Internal Server Error", 500),
    "loading": _json({"message": "model loading"}, "model loading", 503),
}
HANGING, SILENT = "hanging", "silent"
"""Never answers a chat request; never answers anything."""


class OddEndpoints(ScriptedEndpoint):
    """The endpoints; `asked` is set by the first chat request, and by any to `SILENT`. What `kinds` holds may change
    meanwhile; a kind that it lacks answers well."""

    model = MODEL
    prefix = "/{kind}"

    def __init__(self, kinds: dict[str, Odd] | None = None) -> None:
        self._kinds = KINDS if kinds is None else kinds
        self.asked = asyncio.Event()

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["kind"] == SILENT:
            self.asked.set()
            await asyncio.Event().wait()
        return await super()._models(request)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.asked.set()
        kind = request.match_info["kind"]
        if kind == HANGING:
            await asyncio.Event().wait()
        if kind not in self._kinds:
            return web.json_response(completion())
        if (answer := self._kinds[kind].answer) is not None:
            return answer()
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
