"""What a session spends while it runs: tokens and cost so far, of all of its clients."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.inference.usage import Usage


def cost_of(usages: Sequence[Usage]) -> float:
    return sum(usage.cost() for usage in usages)


def spending(usages: Sequence[Usage]) -> str:
    """For a line of progress: ', 10 + 20 tokens, cost 0.0001'."""
    prompt, completion = (sum(usage.total(name) for usage in usages) for name in ("prompt_tokens", "completion_tokens"))
    cost = cost_of(usages)
    return f", {prompt:,} + {completion:,} tokens" + (f", cost {cost:.4f}" if cost else "")
