"""The one retry policy: full jitter, a bounded number of attempts, a deadline, Retry-After as a floor, final errors at once.

The OpenAI SDK's own retries are not in play: two layers of retries multiply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from pipeline.config.endpoints import RequestsSection
from pipeline.errors import EndpointError, RetryableEndpointError

T = TypeVar("T")


class RetryPolicy:
    """Runs further attempts at a request until one succeeds, or the policy ends it."""

    def __init__(self, settings: RequestsSection) -> None:
        self._max_attempts = settings.max_attempts
        self._jitter = wait_random_exponential(multiplier=settings.backoff_s, max=settings.max_backoff_s)

    async def run(
        self,
        failed: RetryableEndpointError,
        again: Callable[[], Awaitable[T]],
        *,
        num_attempts: Callable[[], int],
        deadline_s: float,
    ) -> T:
        """What a further attempt returns after a first one `failed`. Raises the last EndpointError.

        `num_attempts` tells how many were made on the wire (an attempt may hedge), `deadline_s` is on the loop's clock."""
        first: RetryableEndpointError | None = failed

        async def attempt() -> T:
            nonlocal first
            if first is not None:
                error, first = first, None
                raise error
            return await again()

        def ended(state: RetryCallState) -> bool:
            too_late = asyncio.get_running_loop().time() + state.upcoming_sleep >= deadline_s
            return too_late or num_attempts() >= self._max_attempts

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(RetryableEndpointError), stop=ended, wait=self._pause_s, reraise=True
        )
        return await retrying(attempt)

    def _pause_s(self, state: RetryCallState) -> float:
        """Full jitter, never less than the endpoint's Retry-After."""
        error = state.outcome.exception() if state.outcome else None
        floor_s = error.retry_after_s if isinstance(error, EndpointError) and error.retry_after_s else 0.0
        return max(floor_s, self._jitter(state))
