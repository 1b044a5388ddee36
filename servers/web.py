"""What the servers of this package share: an aiohttp application on loopback, and embeddings in OpenAI's shape."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any

from aiohttp import web

HOST = "127.0.0.1"


async def serve(application: web.Application, port: int, shutdown_timeout_s: float = 60.0) -> None:
    """Serve until cancelled; print the address once connections are accepted. Raises OSError when the port is taken."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=shutdown_timeout_s)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port, backlog=8192).start()
        print(f"http://{HOST}:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def embeddings(model: str, vectors: list[list[float]], num_tokens: int, encoding: str | None) -> dict[str, Any]:
    """The reply of /v1/embeddings; `encoding` "base64" packs the numbers as float32."""
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if encoding == "base64" else vector}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return {"object": "list", "model": model, "data": data, "usage": usage}


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
