"""A server that answers with prepared bytes, as fast as Python can: the far end of the client benchmarks.

`python -m benchmarks.canned` prints its address and serves until it is ended. It speaks HTTP/1.1 with keep-alive and
pipelining, answers by path, keeps the order of answers on a connection, and counts at GET /_counters. It proves nothing
about answers."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
from collections import deque
from typing import cast

import uvloop

from pipeline.runtime import event_loop

CHAT, RENDER, GENERATE = b"/v1/chat/completions", b"/v1/chat/completions/render", b"/inference/v1/generate"
VERSION = "l0-s000000"
TEXT = "Adding step by step. The answer is \\boxed{47}. "


def token_entries(num_tokens: int) -> list[dict[str, object]]:
    """Log-probabilities of `num_tokens` tokens, in the shape of OpenAI's chat completions."""
    rng = random.Random(0)
    return [
        {"token": f"tok{i % 97}", "logprob": -round(rng.random() * 3, 6), "bytes": [116, 111, 107], "top_logprobs": []}
        for i in range(num_tokens)
    ]


def chat_answer(num_choices: int, num_tokens: int) -> bytes:
    choices = [
        {
            "index": index,
            "message": {"role": "assistant", "content": TEXT},
            "logprobs": {"content": token_entries(num_tokens)},
            "finish_reason": "stop",
            "token_ids": list(range(100, 100 + num_tokens)),
        }
        for index in range(num_choices)
    ]
    usage = {
        "prompt_tokens": 40,
        "completion_tokens": num_tokens * num_choices,
        "total_tokens": 40 + num_tokens * num_choices,
    }
    reply = {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "policy",
        "choices": choices,
        "usage": usage,
    }
    return json.dumps({**reply, "prompt_token_ids": list(range(40))}).encode()


def generate_answer(num_choices: int, num_tokens: int) -> bytes:
    choices = [
        {
            "index": index,
            "finish_reason": "stop",
            "token_ids": list(range(100, 100 + num_tokens)),
            "weight_versions": [{"version": VERSION, "start": 0, "end": num_tokens}],
            "logprobs": {"content": token_entries(num_tokens)},
            "text": TEXT,
        }
        for index in range(num_choices)
    ]
    return json.dumps({"request_id": "g", "model": "policy", "choices": choices, "prompt_token_ids": None}).encode()


class Canned:
    """The answers, and what was counted."""

    def __init__(self, num_choices: int, num_tokens: int, delay_s: float) -> None:
        self.delay_s = delay_s
        self.num_requests = self.num_open = self.max_open = self.num_connections = 0
        models = json.dumps({"object": "list", "data": [{"id": "policy", "object": "model", "max_model_len": 32768}]})
        render = json.dumps({"request_id": "r", "token_ids": list(range(40)), "model": "policy"})
        self.answers = {
            CHAT: _response(chat_answer(num_choices, num_tokens)),
            GENERATE: _response(generate_answer(num_choices, num_tokens)),
            RENDER: _response(render.encode()),
            b"/v1/models": _response(models.encode()),
            b"/weight_info": _response(json.dumps({"weight_version": VERSION}).encode()),
        }
        self.missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"

    def counters(self) -> bytes:
        counted = {
            "requests": self.num_requests,
            "open": self.num_open,
            "max_open": self.max_open,
            "connections": self.num_connections,
        }
        return _response(json.dumps(counted).encode())


def _response(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One connection: requests in, prepared answers out, in order."""

    def __init__(self, canned: Canned) -> None:
        self._canned = canned
        self._data = b""
        self._pending: deque[bytes] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        canned = self._canned
        canned.num_connections += 1
        canned.num_open += 1
        canned.max_open = max(canned.max_open, canned.num_open)

    def connection_lost(self, error: Exception | None) -> None:
        self._canned.num_open -= 1

    def data_received(self, data: bytes) -> None:
        self._data = data = self._data + data if self._data else data
        begin = 0
        while (end := data.find(b"\r\n\r\n", begin)) >= 0:
            head = data[begin:end]
            at = head.lower().find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(data) < end + 4 + length:
                break
            self._answer(head.split(b" ", 2)[1])
            begin = end + 4 + length
        self._data = data[begin:]

    def _answer(self, path: bytes) -> None:
        canned = self._canned
        if path == b"/_counters":
            self._transport.write(canned.counters())
            return
        canned.num_requests += 1
        answer = canned.answers.get(path, canned.missing)
        # Generation takes time, everything else does not.
        if canned.delay_s and path in (CHAT, GENERATE):
            self._pending.append(answer)
            asyncio.get_running_loop().call_later(canned.delay_s, self._send)
        else:
            self._transport.write(answer)

    def _send(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(self._pending.popleft())


async def serve(canned: Canned, port: int) -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    server = await asyncio.get_running_loop().create_server(lambda: Connection(canned), sock=listener, backlog=8192)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.canned", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: a free one")
    parser.add_argument("--delay-s", type=float, default=0.0, help="seconds before each generation's answer")
    parser.add_argument("--num-choices", type=int, default=1, help="choices in each answer")
    parser.add_argument("--num-tokens", type=int, default=90, help="tokens of each choice (90: about 8 KB)")
    arguments = parser.parse_args()
    event_loop.many_files()
    uvloop.run(serve(Canned(arguments.num_choices, arguments.num_tokens, arguments.delay_s), arguments.port))


if __name__ == "__main__":
    main()
