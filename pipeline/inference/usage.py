"""What endpoints were used for and what it cost, by endpoint and stage. The one formula of a cost is `Prices.cost`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from pipeline.config.endpoints import EndpointSettings
from pipeline.inference.silence import OpenRequests
from pipeline.runtime.histogram import Histogram


class Tally:
    """The requests of one stage to one endpoint. The counts that every request touches are attributes, for speed."""

    __slots__ = (
        "latency", "num_cached_prompt_tokens", "num_completion_tokens", "num_prompt_tokens",
        "num_requests", "num_succeeded", "open",
        "others",
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
        self.open = OpenRequests()
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


class Prices:
    """What a million prompt and a million completion tokens cost, by endpoint, in the user's currency.

    All of `endpoints` serve one model, so that one of them that has moved costs what the first one does; `other` is
    asked beside them."""

    def __init__(self, endpoints: Sequence[EndpointSettings] = (), other: EndpointSettings | None = None) -> None:
        priced = [*endpoints, *([other] if other else [])]
        self._prices = {one.base_url: (one.prompt_price, one.completion_price) for one in reversed(priced)}
        self._first = (endpoints[0].prompt_price, endpoints[0].completion_price) if endpoints else (0.0, 0.0)

    @property
    def given(self) -> bool:
        """Whether any price is set."""
        return any(any(prices) for prices in self._prices.values())

    def cost(self, endpoint: str, num_prompt_tokens: int, num_completion_tokens: int) -> float:
        """What these tokens of the endpoint with this URL cost."""
        prompt, completion = self._prices.get(endpoint, self._first)
        return (prompt * num_prompt_tokens + completion * num_completion_tokens) / 1e6


class Usage:
    """Tallies by (endpoint url, stage), made as they are used; the url is '' for what belongs to no endpoint."""

    def __init__(self, prices: Prices) -> None:
        self.tallies: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
        self.prices = prices

    def total(self, name: str, stage: str | None = None, endpoint: str | None = None) -> int:
        """Sum of one count (`Tally.counts`) over stages and endpoints, or of one of them."""
        return sum(
            tally.counts().get(name, 0)
            for (url, at), tally in self.tallies.items()
            if stage in (None, at) and endpoint in (None, url)
        )

    def failed(self, stage: str | None = None) -> Counter[str]:
        """Attempts that failed, by kind, of all requests or of one stage's; probes of an endpoint that is set aside are
        none."""
        found: Counter[str] = Counter()
        for (url, at), tally in self.tallies.items():
            if url and (at == stage if stage else at != "rejoin"):
                kinds = {name: number for name, number in tally.others.items() if name.startswith("failed_")}
                found.update({name.removeprefix("failed_"): number for name, number in kinds.items()})
        return found

    def by_stage(self) -> dict[str, dict[str, int]]:
        table: dict[str, Counter[str]] = {}
        for (_, stage), tally in sorted(self.tallies.items()):
            table.setdefault(stage, Counter()).update(tally.counts())
        return {stage: dict(sorted(counts.items())) for stage, counts in table.items() if counts}

    def totals(self) -> dict[str, Any]:
        """What a run adds to its totals: counts by stage and, where there are prices, costs."""
        stages = self.by_stage()
        costs = {stage: spent for stage in stages if (spent := self.cost(stage))}
        return {"usage": stages} | ({"cost": self.cost(), "stage_cost": costs} if costs else {})

    def cost(self, stage: str | None = None) -> float:
        """What the tokens of one stage cost, or of all."""
        return sum(
            self.prices.cost(url, tally.num_prompt_tokens, tally.num_completion_tokens)
            for (url, at), tally in self.tallies.items()
            if stage in (None, at)
        )


class Spent(BaseModel):
    """Replies of one kind ('answers', 'judge', 'similarity') by one endpoint, over all sessions of a folder."""

    stage: str
    endpoint: str
    num_replies: int
    num_prompt_tokens: int
    num_completion_tokens: int
    cost: float = 0.0

    def priced(self, prices: Prices) -> Spent:
        """The same with its cost."""
        cost = prices.cost(self.endpoint, self.num_prompt_tokens, self.num_completion_tokens)
        return self.model_copy(update={"cost": cost})
