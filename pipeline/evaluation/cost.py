"""What tokens cost: by answer, by mode, and all that a folder has paid for."""

from __future__ import annotations

from pipeline.inference.client import InferenceClient


class Live:
    """What the pools of this session have spent so far, in words."""

    def __init__(self) -> None:
        self._pools: list[InferenceClient] = []

    def watch(self, pool: InferenceClient) -> InferenceClient:
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
