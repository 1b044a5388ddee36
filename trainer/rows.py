"""The row of a batch that a rollout becomes: under the prompt that it was sampled under, or, where that had a context,
under the problem alone.

Without its context only the solution is trained: what stands before it (`prompts.analysis`) speaks of the context, and
masking would leave it in the conditioning. It is cut off at a boundary of the sampled tokens; nothing is tokenized
again. A rollout that has no block to cut is not trained then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pipeline.types import Rollout, RolloutGroup
from prompts.analysis import span_before_solution

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, without special tokens."""


class Row(NamedTuple):
    """Prompt (P,), completion (C,) and the log-probabilities (C,) of its tokens when they were sampled."""

    prompt_ids: list[int]
    completion_ids: list[int]
    logprobs: list[float]
    without_context: bool = False
    """Whether it was sampled in a context, and is trained without."""
    is_uncut: bool = False
    """Whether it should be, and no block could be cut; it only keeps the place then, of one token."""


RowOf = Callable[[RolloutGroup, Rollout], Row]


def sampled_row(group: RolloutGroup, rollout: Rollout) -> Row:
    """The rollout under the prompt that it was sampled under."""
    return Row(list(group.prompt_ids), list(rollout.token_ids), list(rollout.logprobs))


def scratch_row(group: RolloutGroup, rollout: Rollout, decode: Decode) -> Row:
    """The rollout under the problem alone. Raises ValueError where the journal lacks that prompt."""
    if group.context.kind == "scratch":
        return sampled_row(group, rollout)
    if not group.bare_prompt_ids:
        raise ValueError(
            f"group {group.id} was sampled in a context, and the journal holds no prompt without it, which "
            "learner.train_under = 'scratch' trains under"
        )
    start = solution_start(rollout.token_ids, decode)
    kept = slice(start, None) if start is not None else slice(1)
    return Row(
        list(group.bare_prompt_ids),
        list(rollout.token_ids[kept]),
        list(rollout.logprobs[kept]),
        without_context=True,
        is_uncut=start is None,
    )


def solution_start(token_ids: Sequence[int], decode: Decode) -> int | None:
    """Index of the first token of the solution behind the block that opens a reply: the last boundary between the
    block's end and the solution's first character, where only blanks stand. None where there is no such block, nothing
    behind it, or a token that reaches from the one into the other."""
    text = decode(token_ids)
    span = span_before_solution(text)
    if span is None:
        return None
    # The longest prefix of tokens that ends within the span. A character that is cut apart decodes to a few others,
    # fewer than the closing tag has, so that lengths tell the order of prefixes even there.
    least, most = 0, len(token_ids)
    while least < most:
        middle = (least + most + 1) // 2
        if len(decode(token_ids[:middle])) <= span[1]:
            least = middle
        else:
            most = middle - 1
    before = decode(token_ids[:least])
    return least if len(before) >= span[0] and text.startswith(before) else None
