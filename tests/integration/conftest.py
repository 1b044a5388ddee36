"""Mock endpoints in this process, on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from pipeline.config import EndpointSettings
from servers.mock.endpoint import MockEndpoint, Settings

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
