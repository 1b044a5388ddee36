"""What of an answer a report needs: a few hundred bytes of the kilobytes that are on the disk."""

from __future__ import annotations

import sys
from typing import NamedTuple

from pipeline.evaluation.folder import Answered
from pipeline.inference.usage import Prices


class Scored(NamedTuple):
    """`answer` is what is voted for. Tokens are of all turns and of the search for lessons, as an endpoint without a prefix cache bills
    them. `judged` is an LLM judge's verdict beside the verifier's, by `judge`; None where it gave none."""

    correct: bool
    kind: str
    answer: str | None
    finish_reason: str
    has_lessons: bool
    num_prompt_tokens: int
    num_completion_tokens: int
    cost: float
    judged: bool | None
    judge: str
    verifier: str

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_completion_tokens


def scored(answer: Answered, prices: Prices) -> Scored:
    """The numbers of one answer. Texts that many share are kept once."""
    spent = [(turn.endpoint, turn.num_prompt_tokens, turn.num_completion_tokens) for turn in answer.inferred.turns]
    search = answer.inferred.search
    spent.append((search.endpoint, search.num_prompt_tokens, search.num_completion_tokens))
    return Scored(
        correct=answer.verdict.correct,
        kind=sys.intern(answer.verdict.kind),
        answer=None if answer.verdict.answer is None else sys.intern(answer.verdict.answer),
        finish_reason=sys.intern(answer.inferred.turns[-1].finish_reason),
        has_lessons=bool(answer.inferred.lesson_ids),
        num_prompt_tokens=sum(prompt for _, prompt, _ in spent),
        num_completion_tokens=sum(completion for _, _, completion in spent),
        cost=sum(prices.cost(*each) for each in spent),
        judged=answer.judged.correct if answer.judged is not None and answer.judged.kind == "scored" else None,
        judge=sys.intern(answer.judge),
        verifier=sys.intern(answer.verifier),
    )
