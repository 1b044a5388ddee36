"""What was asked of endpoints and what it cost, by endpoint and stage."""

from __future__ import annotations

from collections import Counter


class Usage:
    """Counts by (endpoint url, stage, name).

    Names: `requests` (attempts on the wire), `succeeded`, `retries`, `hedges`, `failed_<kind>`, `prompt_tokens`,
    `cached_prompt_tokens`, `completion_tokens`. Prices are per million tokens, prompt and completion, by endpoint url."""

    def __init__(self, prices: dict[str, tuple[float, float]] | None = None) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.prices = prices or {}

    def add(self, stage: str, name: str, amount: int = 1, endpoint: str = "") -> None:
        self.counts[(endpoint, stage, name)] += amount

    def total(self, name: str, stage: str | None = None, endpoint: str | None = None) -> int:
        return sum(
            amount
            for (url, at, key), amount in self.counts.items()
            if key == name and stage in (None, at) and endpoint in (None, url)
        )

    def by_stage(self) -> dict[str, dict[str, int]]:
        table: dict[str, dict[str, int]] = {}
        for (_, stage, name), amount in sorted(self.counts.items()):
            counts = table.setdefault(stage, {})
            counts[name] = counts.get(name, 0) + amount
        return table

    def cost(self, stage: str | None = None) -> float:
        """What the tokens cost by the configured prices, in their currency."""
        cost = 0.0
        for url, (prompt_price, completion_price) in self.prices.items():
            cost += prompt_price * self.total("prompt_tokens", stage, url) / 1e6
            cost += completion_price * self.total("completion_tokens", stage, url) / 1e6
        return cost
