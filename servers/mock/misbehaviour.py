"""Carries a fault out: what a request meets instead of its answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, get_args

from aiohttp import web

from servers.mock.faults import Fault, Transport, spoil

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
FOREVER_S = 3600.0


def error(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """An error in vLLM's shape."""
    body = {"error": {"message": message, "type": "MockError", "param": None, "code": status}}
    return web.json_response(body, status=status, headers=headers)


def replying(reply: Callable[[], Json]) -> Handler:
    """Answers what `reply` returns, whatever the request says."""

    async def handle(request: web.Request) -> web.Response:
        return web.json_response(reply())

    return handle


async def fail(request: web.Request, handler: Handler, fault: Fault) -> web.StreamResponse:
    """Answer `request` as `fault` says; where the connection is dropped, what is returned reaches nobody."""
    if fault.kind == "status":
        location = request.path if fault.code == 307 else None
        headers = {"Retry-After": fault.retry_after, "retry-after-ms": fault.retry_after_ms, "Location": location}
        return error(fault.code, fault.body, {name: str(value) for name, value in headers.items() if value is not None})
    if fault.kind == "no_effect":
        return web.json_response({"results": [None]})
    if fault.kind in get_args(Transport):
        return await _break(request, handler, fault)
    response = await handler(request)
    if not isinstance(response, web.Response) or response.status != 200 or not isinstance(response.body, bytes):
        return response
    return _spoiled(response.body, fault.kind)


def drop(request: web.Request) -> web.Response:
    """Reset the connection. What is returned is written to nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def _break(request: web.Request, handler: Handler, fault: Fault) -> web.StreamResponse:
    match fault.kind:
        case "reset":
            return drop(request)
        case "slow":
            await asyncio.sleep(fault.delay_s)
            return await handler(request)
        case "black_hole":
            await asyncio.sleep(FOREVER_S)
            return drop(request)
    whole = await handler(request)
    body = whole.body if isinstance(whole, web.Response) and isinstance(whole.body, bytes) else b"{}"
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(request)
    if fault.kind == "trickle":
        for index in range(10):
            await response.write(body[len(body) * index // 10 : len(body) * (index + 1) // 10])
            await asyncio.sleep(fault.delay_s / 10)
        return response
    await response.write(body[: len(body) // 2])
    if fault.kind == "stall":
        await asyncio.sleep(FOREVER_S)
    if fault.kind == "short_body" and request.transport is not None:
        request.transport.close()  # an orderly end, in the middle of what Content-Length announced
        return response
    drop(request)
    return response


def _spoiled(body: bytes, kind: str) -> web.Response:
    match kind:
        case "truncated_json":
            return web.Response(body=body[: len(body) // 2], content_type="application/json")
        case "empty_body":
            return web.Response(body=b"", content_type="application/json")
        case "html":
            return web.Response(text="<html><body>Bad gateway</body></html>", content_type="text/html")
        case "gzip_garbage":
            headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
            return web.Response(body=b"\x1f\x8bgarbage" + body[:50], headers=headers)
    reply: Any = spoil(json.loads(body), kind)
    return web.Response(text=json.dumps(reply), content_type="application/json")
