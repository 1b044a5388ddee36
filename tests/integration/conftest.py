"""Mock endpoints and an S3 server in this process, on loopback."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.config.endpoints import EndpointSettings
from servers.mock.endpoint import MockEndpoint, Settings
from tests.scripted_endpoint import serving

if TYPE_CHECKING:
    from tests.s3_server import S3Server

StartMock = Callable[..., Awaitable[EndpointSettings]]


@pytest.fixture
async def start_mock() -> AsyncIterator[StartMock]:
    """Start a mock endpoint with `Settings(**kwargs)`; returns how to reach it."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> EndpointSettings:
            url = await stack.enter_async_context(serving(MockEndpoint(Settings(**settings)).application()))
            return EndpointSettings(url=url, max_concurrency=32)

        yield start


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
