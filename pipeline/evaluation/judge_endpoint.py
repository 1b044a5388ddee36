"""The endpoint that `--judge` names, opened and looked at before it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.errors import EndpointSetupError
from pipeline.inference.capabilities import check_endpoint
from pipeline.inference.client import InferenceClient


@asynccontextmanager
async def judge_endpoint(settings: EndpointSettings, requests: RequestsSection) -> AsyncIterator[InferenceClient]:
    """A pool of this one endpoint; where `settings` name no model it is the only one that is served there.

    Raises EndpointSetupError when it does not answer, or serves no such model, or several and none was named."""
    async with InferenceClient((settings,), "", requests) as pool:
        try:
            await check_endpoint(pool, pool.endpoints[0], training=False)
        except EndpointSetupError as error:
            raise EndpointSetupError(
                f"--judge {settings.url}: {error} (a judge's model is named with --judge-model)"
            ) from error
        yield pool
