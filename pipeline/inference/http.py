"""HTTP requests to endpoints: one request is one attempt, by aiohttp and orjson.

The wire protocol is the one that the `openai` client speaks (`tests/integration/test_wire_contract.py` holds the two
side by side); aiohttp carries it faster (docs/lab-notebook.md). Every failure leaves as an EndpointError with a stable
kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import orjson
from yarl import URL

from pipeline.errors import EndpointError, MalformedReplyError, RetryableEndpointError
from pipeline.inference import protocol
from pipeline.inference.endpoint import Endpoint
from pipeline.runtime.redaction import redact

CONNECT_TIMEOUT_S = 10.0
# Shorter than servers keep an idle connection (uvicorn 5 s, nginx 75 s): reusing one that is just being closed costs a
# retry.
KEEP_ALIVE_S = 4.0
SHOWN_BYTES = 120


class RawReply(NamedTuple):
    """An answer of any status, before anything is made of it."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Transport:
    """Async context manager; owns the connections. Deadlines and the number of requests in flight are the caller's."""

    def __init__(self, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            # No limit here: aiohttp would queue silently, and time spent in its queue would look like latency.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    async def request(self, method: str, url: URL, headers: dict[str, str], body: Any = None) -> Any:
        """The parsed JSON of one answer. Raises EndpointError, for a status other than 200 too."""
        # Not by `fetch`: every request of a run comes this way, and a frame more is passed at each of its waits.
        assert self._session is not None, "Transport is an async context manager"
        data = None if body is None else orjson.dumps(body)
        try:
            async with self._session.request(method, url, data=data, headers=headers, allow_redirects=False) as reply:
                content = await reply.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise connection_error(url, error) from error
        if reply.status != 200:
            raise _refusal(RawReply(reply.status, reply.headers, content), headers)
        if (key := headers.get("Authorization")) and key[len("Bearer ") :].encode() in content:
            content = _readable(RawReply(reply.status, reply.headers, content), headers).encode()
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise _no_json(url, RawReply(reply.status, reply.headers, content), headers, error) from error

    async def fetch(self, method: str, url: URL, headers: dict[str, str], body: Any = None) -> RawReply:
        """One answer as it came. Raises EndpointError where none came."""
        assert self._session is not None, "Transport is an async context manager"
        data = None if body is None else orjson.dumps(body)
        try:
            async with self._session.request(method, url, data=data, headers=headers, allow_redirects=False) as reply:
                return RawReply(reply.status, reply.headers, await reply.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise connection_error(url, error) from error

    async def stream(self, url: URL, headers: dict[str, str], body: Any) -> AsyncIterator[Any]:
        """The parsed events of one streamed answer, up to its [DONE]. Raises EndpointError."""
        assert self._session is not None, "Transport is an async context manager"
        try:
            async with self._session.post(
                url, data=orjson.dumps(body), headers={**headers, "Accept": "text/event-stream"}, allow_redirects=False
            ) as reply:
                if reply.status != 200:
                    raise _refusal(RawReply(reply.status, reply.headers, await reply.read()), headers)
                async for line in reply.content:
                    if line.startswith(b"data:"):
                        event = line[5:].strip()
                        if event == b"[DONE]":
                            return
                        yield orjson.loads(event)
        except orjson.JSONDecodeError as error:
            raise MalformedReplyError("broken_json", f"{url}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise connection_error(url, error) from error
        raise MalformedReplyError("cut_stream", f"{url}: the stream ended without [DONE]")


class HttpAttempt(NamedTuple):
    """One attempt of a request at one endpoint."""

    transport: Transport
    endpoint: Endpoint
    headers: dict[str, str]

    async def post(self, path: str, body: Any) -> Any:
        return await self.transport.request("POST", self.endpoint.at(path), self.headers, body)

    async def get(self, path: str) -> Any:
        return await self.transport.request("GET", self.endpoint.at(path), self.headers)


def _refusal(reply: RawReply, headers: dict[str, str]) -> EndpointError:
    """The error that a status other than 200 stands for."""
    return protocol.error_of(reply.status, _readable(reply, headers), reply.headers)


def _readable(reply: RawReply, headers: dict[str, str]) -> str:
    """The body as text. Some gateways repeat the key that they refuse: it gets no further."""
    key = headers.get("Authorization", "").removeprefix("Bearer ")
    return redact(reply.content.decode(errors="replace"), (key,) if key else ())


def _no_json(url: URL, reply: RawReply, headers: dict[str, str], error: ValueError) -> MalformedReplyError:
    """For an answer that cannot be read: what it is instead, as far as its header and its beginning tell."""
    kind = reply.headers.get("Content-Type", "without a type")
    beginning = _readable(reply._replace(content=reply.content[:SHOWN_BYTES]), headers)
    return MalformedReplyError("broken_json", f"{url} answers no JSON ({error}) but {kind}: {beginning!r}")


def connection_error(url: URL, error: Exception) -> EndpointError:
    """The error of kind `refused` (nobody listens there, or nobody answers the knock) or `connection` (it broke while
    in use)."""
    refused = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return RetryableEndpointError(
        "refused" if refused else "connection", f"{url}: {type(error).__name__}: {error}".removesuffix(": ")
    )
