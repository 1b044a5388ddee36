"""What was asked of endpoints and what it cost, by endpoint and stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import BaseModel

from pipeline.config.endpoints import EndpointSettings
from pipeline.runtime.histogram import Histogram


class Tally:
    """What one stage asked of one endpoint. The counts that every request touches are attributes, for speed."""

    __slots__ = (
        "latency", "num_cached_prompt_tokens", "num_completion_tokens", "num_prompt_tokens", "num_requests", "num_succeeded", "others",
    )  # fmt: skip

    def __init__(self) -> None:
        self.num_requests = 0
        """Attempts on the wire."""
        self.num_succeeded = 0
        self.num_prompt_tokens = 0
        self.num_completion_tokens = 0
        self.num_cached_prompt_tokens = 0
        self.latency = Histogram()
        """Of the attempts that succeeded, seconds."""
        self.others: Counter[str] = Counter()
        """`retries`, `hedges`, `failed_<kind>`."""

    def counts(self) -> dict[str, int]:
        """Every count that is not 0, by its name."""
        named = {
            "requests": self.num_requests,
            "succeeded": self.num_succeeded,
            "prompt_tokens": self.num_prompt_tokens,
            "completion_tokens": self.num_completion_tokens,
            "cached_prompt_tokens": self.num_cached_prompt_tokens,
            **self.others,
        }
        return {name: count for name, count in sorted(named.items()) if count}


class Usage:
    """Tallies by (endpoint url, stage). Prices are per million tokens, prompt and completion, by endpoint url."""

    def __init__(self, prices: dict[str, tuple[float, float]] | None = None) -> None:
        self.tallies: dict[tuple[str, str], Tally] = {}
        self.prices = prices or {}

    def at(self, endpoint: str, stage: str) -> Tally:
        """The tally of one endpoint and stage; '' for what belongs to no endpoint."""
        key = (endpoint, stage)
        tally = self.tallies.get(key)
        if tally is None:
            tally = self.tallies[key] = Tally()
        return tally

    def total(self, name: str, stage: str | None = None, endpoint: str | None = None) -> int:
        """Sum of one count (`Tally.counts`) over stages and endpoints, or of one of them."""
        return sum(
            tally.counts().get(name, 0)
            for (url, at), tally in self.tallies.items()
            if stage in (None, at) and endpoint in (None, url)
        )

    def by_stage(self) -> dict[str, dict[str, int]]:
        table: dict[str, Counter[str]] = {}
        for (_, stage), tally in sorted(self.tallies.items()):
            table.setdefault(stage, Counter()).update(tally.counts())
        return {stage: dict(sorted(counts.items())) for stage, counts in table.items() if counts}

    def cost(self, stage: str | None = None) -> float:
        """What the tokens cost by the configured prices, in their currency."""
        cost = 0.0
        for url, (prompt_price, completion_price) in self.prices.items():
            cost += prompt_price * self.total("prompt_tokens", stage, url) / 1e6
            cost += completion_price * self.total("completion_tokens", stage, url) / 1e6
        return cost


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


class Spent(BaseModel):
    """Replies of one kind ('answers', 'judge', 'similarity') by one endpoint, over all sessions of a folder."""

    stage: str
    endpoint: str
    num_replies: int
    num_prompt_tokens: int
    num_completion_tokens: int
    cost: float = 0.0
