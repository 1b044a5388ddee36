"""Mock endpoints and an S3 server in this process, on loopback."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from pipeline.config.endpoints import EndpointSettings
from servers.mock.endpoint import MockEndpoint, Settings

if TYPE_CHECKING:
    from tests.s3_server import S3Server

StartMock = Callable[..., Awaitable[EndpointSettings]]


@pytest.fixture
async def start_mock() -> AsyncIterator[StartMock]:
    """Start a mock endpoint with `Settings(**kwargs)`; returns how to reach it."""
    runners: list[web.AppRunner] = []

    async def start(**settings: Any) -> EndpointSettings:
        runner = web.AppRunner(MockEndpoint(Settings(**settings)).application(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return EndpointSettings(url=f"http://127.0.0.1:{runner.addresses[0][1]}", max_concurrency=32)

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    from tests.s3_server import S3Server

    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of a new bucket; its server's address and keys are in the environment."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid.uuid4().hex[:8]}"
    s3_server.client().create_bucket(Bucket=bucket)
    return f"s3://{bucket}"
