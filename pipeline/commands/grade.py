"""`grade`: verdicts on the responses in a file, each with its reason: what was extracted, by which mark, what it was
compared with, by which rule. The verdicts are those of training: the same scorers in the same killable processes."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import islice
from typing import Any, NamedTuple

from pipeline.commands.setting_options import settings_given
from pipeline.config import Config
from pipeline.config.loading import load_config
from pipeline.errors import DataError
from pipeline.evaluation.graded_rows import Response, responses_in
from pipeline.observability.progress import warn
from pipeline.rewards.code.packages import may_import
from pipeline.rewards.explanation import Explanation, explained
from pipeline.rewards.judge.verifier import verifier_of
from pipeline.rewards.verifier import Verifier
from pipeline.runtime import event_loop
from pipeline.types import UNJUDGEABLE, Verdict

AT_ONCE = 64
"""Responses that are graded beside each other; they are printed in the order of the file."""
MAX_SHOWN_CHARS = 300


class Graded(NamedTuple):
    """A response with its verdict and the reason."""

    response: Response
    verdict: Verdict
    reason: Explanation

    @property
    def passed(self) -> bool:
        return self.verdict.correct

    @property
    def is_as_expected(self) -> bool:
        """As it is labelled, or where it bears no label, passed."""
        return not self.is_unjudged and self.passed == (self.response.expected is not False)

    @property
    def is_unjudged(self) -> bool:
        """Whether that is nobody's fault but the scorer's, or its settings'."""
        return self.verdict.kind in UNJUDGEABLE

    def as_json(self) -> dict[str, Any]:
        response, verdict = self.response, self.verdict
        found = {
            "where": response.where, "passed": self.passed, "kind": verdict.kind, "score": verdict.score,
            "components": verdict.components, **self.reason.model_dump(mode="json"),
        }  # fmt: skip
        if response.expected is not None:
            found["expected"] = response.expected
        if response.before is not None:
            found["passed_before"] = response.before
        return found


def grade_command(arguments: argparse.Namespace) -> int:
    """Grade each response, print why it passed or failed, and a summary. The status is 0 where each is as it is
    labelled, or passes where there are no labels, else 1."""
    given = settings_given(arguments)
    config = load_config(arguments.config, given).patient_as_eval
    may_import(config.reward.code.packages)  # or say which of them is not here
    rows = responses_in(
        arguments.file, config, scorer=given.get("reward", {}).get("scorer", ""), registry=arguments.registry,
        data=arguments.data, warn=warn,
    )  # fmt: skip
    return event_loop.run(_graded_all(rows, config, arguments))


async def _graded_all(rows: Iterator[Response], config: Config, arguments: argparse.Namespace) -> int:
    tally = _Tally()
    async for one in _graded(rows, config):
        tally.add(one)
        if arguments.failed and one.is_as_expected:
            continue
        print(json.dumps(one.as_json(), ensure_ascii=False) if arguments.json else "\n".join(_lines(one)), flush=True)
    if not tally.num:
        raise DataError(f"{arguments.file} holds no responses; see grade --help for the rows that are read")
    for line in tally.lines():
        print(line, file=sys.stderr if arguments.json else sys.stdout)
    return 0 if tally.num_as_expected == tally.num else 1


async def _graded(rows: Iterator[Response], config: Config) -> AsyncIterator[Graded]:
    """The responses with their verdicts, in order. The processes of a scorer start with its first response."""
    verifiers: dict[str, Verifier] = {}
    async with AsyncExitStack() as stack:
        while chunk := list(islice(rows, AT_ONCE)):
            for scorer in dict.fromkeys(one.scorer for one in chunk):
                if scorer not in verifiers:
                    wanted = config.reward
                    if scorer != wanted.scorer:
                        wanted = wanted.model_copy(update={"scorer": scorer, "scorers": ()})
                    opening = verifier_of(config.model_copy(update={"reward": wanted}), on_trouble=warn)
                    verifiers[scorer] = await stack.enter_async_context(opening)
            verdicts = await asyncio.gather(*(verifiers[one.scorer].verify(one.text, one.task) for one in chunk))
            for one, verdict in zip(chunk, verdicts, strict=True):
                yield Graded(one, verdict, explained(one.text, one.task.label, verdict, one.scorer))


def _lines(one: Graded) -> Iterator[str]:
    response, reason = one.response, one.reason
    state = "PASS" if one.passed else "FAIL"
    expected = "" if one.is_as_expected else f"  (labelled {'right' if response.expected else 'wrong'})"
    yield f"{state}  {response.where}{expected if response.expected is not None else ''}"
    extracted = "nothing" if reason.extracted is None else _short(reason.extracted)
    yield f"      extracted  {extracted}{f'  (by {reason.mark})' if reason.mark else ''}"
    if reason.compared_with:
        yield f"      compared   with {_short(' or '.join(reason.compared_with))}"
    yield f"      rule       {_short(reason.rule)}"
    if response.before is not None and response.before != one.passed:
        yield f"      before     {'right' if response.before else 'wrong'}, by the verdict that is stored"
    if not one.passed and one.verdict.score:
        yield f"      score      {one.verdict.score:g}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_SHOWN_CHARS else f"{line[:MAX_SHOWN_CHARS]}…"


class _Tally:
    """What came of all responses, for the summary."""

    def __init__(self) -> None:
        self.num = self.num_passed = self.num_as_expected = self.num_labelled = 0
        self.num_paid_wrong = self.num_unpaid_right = self.num_unjudged = self.num_before = 0
        self.kinds: Counter[str] = Counter()
        self.marks: Counter[str] = Counter()
        self.turned: Counter[bool] = Counter()

    def add(self, one: Graded) -> None:
        expected, before = one.response.expected, one.response.before
        self.num += 1
        self.num_passed += one.passed
        self.num_as_expected += one.is_as_expected
        self.kinds[one.verdict.kind] += 1
        self.marks[one.reason.mark or "no mark"] += 1
        self.num_labelled += expected is not None
        self.num_paid_wrong += expected is False and one.passed
        self.num_unjudged += expected is not None and one.is_unjudged
        self.num_unpaid_right += expected is True and not one.passed and not one.is_unjudged
        self.num_before += before is not None
        if before is not None and before != one.passed:
            self.turned[one.passed] += 1

    def lines(self) -> Iterator[str]:
        yield f"{self.num_passed} of {self.num} pass ({self.num_passed / self.num:.1%}); {_counted(self.kinds)}"
        yield f"found by: {_counted(self.marks)}"
        if self.num_labelled:
            num_as_labelled = self.num_labelled - self.num_paid_wrong - self.num_unpaid_right - self.num_unjudged
            unjudged = f", {self.num_unjudged} could not be judged" if self.num_unjudged else ""
            yield (
                f"labels: {num_as_labelled} of {self.num_labelled} as labelled; {self.num_paid_wrong} pass that are "
                f"wrong, {self.num_unpaid_right} fail that are right{unjudged}"
            )
        if self.num_before:
            yield (
                f"stored verdicts: {self.turned.total()} of {self.num_before} differ; {self.turned[True]} pass now, "
                f"{self.turned[False]} fail now"
            )


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {num}" for name, num in counts.most_common())
