"""What a session spends while it runs: tokens, cost and attempts so far, of all of its clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pipeline.inference.usage import Usage


def cost_of(usages: Sequence[Usage]) -> float:
    return sum(usage.cost() for usage in usages)


def spending(usages: Sequence[Usage]) -> str:
    """For a line of progress: ', 10 + 20 tokens, cost 0.0001'."""
    prompt, completion = (sum(usage.total(name) for usage in usages) for name in ("prompt_tokens", "completion_tokens"))
    cost = cost_of(usages)
    return f", {prompt:,} + {completion:,} tokens" + (f", cost {cost:.4f}" if cost else "")


def failed_attempts(usages: Iterable[Usage]) -> list[str]:
    """A note on the attempts that failed, whatever became of their requests; none where none did."""
    failed: Counter[str] = Counter()
    num_attempts = 0
    for usage in usages:
        failed += usage.failed()
        num_attempts += usage.total("requests")
    kinds = ", ".join(f"{kind} {number}" for kind, number in failed.most_common())
    if not failed:
        return []
    return [f"{failed.total()} of the {num_attempts} attempts at requests of this session failed ({kinds})"]
