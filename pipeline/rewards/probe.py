"""A probe of the user's scorers on real problems, before anything starts: what do they say of answers that are known?

Each problem is given its gold answer in its box, a wrong, an empty, a long and an unformatted answer. Pure but for
`probed`, which asks a verifier. Findings: no judgement is an error, and so is a total that is the same for every answer
to a problem although the gold one is among them; a component that is the same, or a gold answer that does not count as
correct, is a doubt. What is the same is asked of the gold answer in other shapes before it counts as such."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.config.rollout import RewardSection
from pipeline.rewards.verifier import Verifier
from pipeline.types import Task, Verdict

NUM_PROBLEMS = 3
LONG = "Let me think about this step by step, and look at every part of it once more. " * 100
GOLD = "gold"


class Probed(NamedTuple):
    """A problem with the verdict on each answer that it was given, by the answer's kind."""

    task: Task
    verdicts: dict[str, Verdict]

    def __str__(self) -> str:
        said = ", ".join(f"{kind} {_shown(verdict)}" for kind, verdict in self.verdicts.items())
        return f"{_named(self.task)}: {said}"


class ProbeReport(NamedTuple):
    """What was said of which problem; `error` and `doubts` are empty where nothing is wrong."""

    probed: list[Probed]
    error: str
    doubts: list[str]


async def probed(verifier: Verifier, tasks: Sequence[Task], settings: RewardSection) -> ProbeReport:
    """Ask `verifier` for verdicts on known answers to some of `tasks`: those to a problem together, and all problems at
    once. Ends at the first problem without a judgement; a scorer that is late with its very first answer is asked no
    more."""
    chosen = [tasks[index] for index in sorted({0, len(tasks) // 2, len(tasks) - 1})[:NUM_PROBLEMS]]
    asked = [answers_to(task, chosen[place - 1].label.answer) for place, task in enumerate(chosen)]
    kind = next(iter(asked[0]))
    first = await _asked(verifier, Probed(chosen[0], {}), {kind: asked[0][kind]})
    if first.verdicts[kind].kind == "timeout":
        return ProbeReport([first], _failure(first, settings), [])
    found = [first, *(Probed(task, {}) for task in chosen[1:])]
    found, failure = await _all_asked(verifier, found, asked, settings)
    has_gold = any(GOLD in one.verdicts for one in found)
    if not failure and has_gold and (is_flat(found) or any(is_flat(found, name) for name in _columns(found))):
        found, failure = await _all_asked(verifier, found, [other_golds(one.task) for one in found], settings)
    if failure:
        return ProbeReport(found, failure, [])
    error = _flat(found) + verifier.hint if has_gold and is_flat(found) else ""
    return ProbeReport(found, error, list(_doubts(found, settings)))


def answers_to(task: Task, others: str = "") -> dict[str, str]:
    """Answers of known kinds to a problem, by the name of the kind. Without a gold answer (a program) there is no
    gold one; `others` is the gold answer of another problem."""
    gold = task.label.answer
    answers = {"wrong": boxed(wrong_answer(gold, others)), "empty": "", "long": LONG}
    if not gold:
        return answers | {"unformatted": "I do not know."}
    return {GOLD: boxed(gold), **answers, "unformatted": f"I think that it is {gold}, more or less"}


def other_golds(task: Task) -> dict[str, str]:
    """The gold answer in shapes that a scorer may insist on."""
    gold = task.label.answer
    shapes = {
        "gold in tags": f"<think>\nI add.\n</think>\n<answer>{gold}</answer>",
        "gold after ####": f"I add.\n#### {gold}",
        "gold alone": gold,
        "gold in a block": f"```python\n{gold}\n```",
    }
    return shapes if gold else {}


def boxed(answer: str) -> str:
    return f"I work it out, and check it. The answer is \\boxed{{{answer}}}."


def wrong_answer(gold: str, others: str) -> str:
    """An answer that is not `gold`, of its kind."""
    try:
        return str(int(gold) + 1)
    except ValueError:
        return others if others and others != gold else f"not {gold}"


def is_flat(probed: Sequence[Probed], column: str = "") -> bool:
    """Whether all answers to a problem have one score, or one in `column`, whichever the problem: what is learned are
    differences between answers to one."""
    return all(len(_values([one], column)) == 1 for one in probed)


def _values(probed: Sequence[Probed], column: str = "") -> set[float]:
    """In float32, as the learner gets them."""
    verdicts = [verdict for one in probed for verdict in one.verdicts.values()]
    return set(array("f", (verdict.components[column] if column else verdict.score for verdict in verdicts)))


def _columns(probed: Sequence[Probed]) -> list[str]:
    return list(next(iter(probed[0].verdicts.values())).components)


def _flat(probed: Sequence[Probed]) -> str:
    """What is wrong with the same reward for every answer to a problem."""
    first = [(_shown(next(iter(one.verdicts.values()))), _named(one.task)) for one in probed]
    given = f"it gave {first[0][0]} to every answer"
    alike, lost = "right, wrong, empty and long alike", "so nothing can be learned from it"
    if len(_values(probed)) == 1:
        return f"{given}, {alike}, {lost}; the first problem was {first[0][1]}"
    all_given = ", ".join(f"{value} to those of {problem}" for value, problem in first)
    return f"it gave every answer to a problem the same, {alike}: it looks at the problem alone, {lost}: {all_given}"


async def _all_asked(
    verifier: Verifier, probed: Sequence[Probed], asked: Sequence[dict[str, str]], settings: RewardSection
) -> tuple[list[Probed], str]:
    """The problems with the verdicts on `asked`, each, too; and why one has none, without waiting for the others."""
    calls = [asyncio.ensure_future(_asked(verifier, one, answers)) for one, answers in zip(probed, asked, strict=True)]
    try:
        for call in asyncio.as_completed(calls):
            if failure := _failure(one := await call, settings):
                return [one], failure
        return [call.result() for call in calls], ""
    finally:
        for left in calls:
            left.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def _asked(verifier: Verifier, one: Probed, answers: dict[str, str]) -> Probed:
    """`one` with the verdicts on those answers that it has none on."""
    texts = {kind: text for kind, text in answers.items() if kind not in one.verdicts}
    verdicts = await verifier.verify_group(list(texts.values()), one.task) if texts else []
    return Probed(one.task, {**one.verdicts, **dict(zip(texts, verdicts, strict=True))})


def _failure(one: Probed, settings: RewardSection) -> str:
    """Why an answer has no judgement; empty where all have one."""
    failed = [(kind, verdict) for kind, verdict in one.verdicts.items() if verdict.failed]
    if not failed:
        return ""
    kind, verdict = failed[0]
    remedy = (
        f"; make it faster, or raise reward.timeout_s = {settings.timeout_s:g}" if verdict.kind == "timeout" else ""
    )
    others = f" (and for {len(failed) - 1} of {len(one.verdicts) - 1} other answers)" if len(failed) > 1 else ""
    return f"no reward for the {kind} answer to {_named(one.task)}{others}: {verdict.text}{remedy}"


def _doubts(probed: Sequence[Probed], settings: RewardSection) -> list[str]:
    has_gold, found = any(GOLD in one.verdicts for one in probed), []
    for name in _columns(probed) if has_gold or len(settings.all_scorers) > 1 else ():
        values = _values(probed, name)
        if len(values) == 1:
            found.append(f"the component {name} was {values.pop():g} for every answer")
        elif is_flat(probed, name):
            found.append(f"the component {name} was the same for all answers to a problem: it looks at that alone")
    golds = [verdict for one in probed for kind, verdict in one.verdicts.items() if kind.startswith(GOLD)]
    if golds and not any(verdict.correct for verdict in golds):
        best = max(verdict.components[settings.all_scorers[0].column] for verdict in golds)
        found.append(
            f"the gold answer got {best:g} at best, less than reward.threshold = {settings.threshold:g}, so accuracy "
            "will read 0; set it to the least score that counts as correct"
        )
    return found


def _shown(verdict: Verdict) -> str:
    if verdict.failed:
        return verdict.kind
    parts = "" if len(verdict.components) < 2 else str({name: round(v, 4) for name, v in verdict.components.items()})
    words = f" {verdict.text[:60]!r}" if verdict.text else ""
    return f"{verdict.score:g}{parts}{words}"


def _named(task: Task) -> str:
    question = " ".join(task.problem.query_text.split())
    return f"{task.problem.id} ({question[:60]}{'…' if len(question) > 60 else ''})"
