"""What a session spends while it runs."""

from __future__ import annotations

from pipeline.inference.usage import Usage


class Spending:
    """Tokens and cost so far, of all clients whose usage was added."""

    def __init__(self) -> None:
        self._usages: list[Usage] = []

    def add(self, usage: Usage) -> None:
        self._usages.append(usage)

    @property
    def cost(self) -> float:
        return sum(usage.cost() for usage in self._usages)

    def text(self) -> str:
        """For a line of progress: ', 10 + 20 tokens, cost 0.0001'."""
        prompt, completion = (
            sum(usage.total(name) for usage in self._usages) for name in ("prompt_tokens", "completion_tokens")
        )
        return f", {prompt:,} + {completion:,} tokens" + (f", cost {self.cost:.4f}" if self.cost else "")
