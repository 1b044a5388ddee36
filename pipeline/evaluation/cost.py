"""What tokens cost: by answer, by mode, and all that a folder has paid for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel

from pipeline.config.endpoints import EndpointSettings
from pipeline.inference.client import EndpointPool


class Spent(BaseModel):
    """Replies of one kind ('answers', 'judge', 'similarity') by one endpoint, over all sittings of a folder."""

    stage: str
    endpoint: str
    num_replies: int
    num_prompt_tokens: int
    num_completion_tokens: int
    cost: float = 0.0


class Prices:
    """Of a million prompt and completion tokens, by endpoint: of `endpoints`, which serve one model, so that one of them that has moved
    costs what the first one does; and of `other`."""

    def __init__(self, endpoints: Sequence[EndpointSettings] = (), other: EndpointSettings | None = None) -> None:
        named = [*endpoints, *([other] if other else [])]
        self._prices = {one.base_url: (one.prompt_price, one.completion_price) for one in reversed(named)}
        self._first = (endpoints[0].prompt_price, endpoints[0].completion_price) if endpoints else (0.0, 0.0)

    @property
    def known(self) -> bool:
        return any(any(prices) for prices in self._prices.values())

    def of(self, endpoint: str, num_prompt_tokens: int, num_completion_tokens: int) -> float:
        prompt, completion = self._prices.get(endpoint, self._first)
        return (prompt * num_prompt_tokens + completion * num_completion_tokens) / 1e6

    def applied(self, spent: Iterable[Spent]) -> list[Spent]:
        """`spent` with its cost."""
        return [
            one.model_copy(update={"cost": self.of(one.endpoint, one.num_prompt_tokens, one.num_completion_tokens)})
            for one in spent
        ]


class Live:
    """What the pools of this sitting have spent so far, in words."""

    def __init__(self) -> None:
        self._pools: list[EndpointPool] = []

    def watch(self, pool: EndpointPool) -> EndpointPool:
        self._pools.append(pool)
        return pool

    @property
    def cost(self) -> float:
        return sum(pool.usage.cost() for pool in self._pools)

    def words(self) -> str:
        prompt, completion = (
            sum(pool.usage.total(name) for pool in self._pools) for name in ("prompt_tokens", "completion_tokens")
        )
        return f", {prompt:,} + {completion:,} tokens" + (f", cost {self.cost:.4f}" if self.cost else "")
