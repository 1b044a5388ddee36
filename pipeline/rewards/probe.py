"""A probe of the user's scorers on real problems, before anything starts: what do they say of answers that are known?

Each problem is given its gold answer in its box, a wrong, an empty, a long and an unformatted answer. Pure but for
`probed`, which asks a verifier. Findings: no judgement is an error, and so is a total that is the same for every answer
although the gold one is among them; a component that is the same, or a gold answer that does not count as correct, is a
doubt. A total that is the same is asked of the gold answer in other shapes before it counts as such."""

from __future__ import annotations

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
    """Ask `verifier` for verdicts on known answers to some of `tasks`. Ends at the first problem without a
    judgement."""
    found: list[Probed] = []
    for index in sorted({0, len(tasks) // 2, len(tasks) - 1})[:NUM_PROBLEMS]:
        task = tasks[index]
        found.append(await _asked(verifier, task, answers_to(task, tasks[index - 1].label.answer)))
        if failure := _failure(found[-1], settings):
            return ProbeReport(found, failure + verifier.hint, [])
    if is_flat(found):
        found = [await _asked(verifier, one.task, other_golds(one.task), one.verdicts) for one in found]
    error = ""
    if is_flat(found) and any(GOLD in one.verdicts for one in found):
        value = _shown(next(iter(found[0].verdicts.values())))
        error = (
            f"it gave {value} to every answer, right, wrong, empty and long alike, so nothing can be learned from it; "
            "the first problem was " + _named(found[0].task) + verifier.hint
        )
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


def is_flat(probed: Sequence[Probed]) -> bool:
    """Whether every answer to every problem has the same score."""
    return len({verdict.score for one in probed for verdict in one.verdicts.values()}) == 1


async def _asked(
    verifier: Verifier, task: Task, answers: dict[str, str], known: dict[str, Verdict] | None = None
) -> Probed:
    """Each answer by itself: one that fails takes no other with it."""
    verdicts = {kind: await verifier.verify(text, task) for kind, text in answers.items()}
    return Probed(task, {**(known or {}), **verdicts})


def _failure(one: Probed, settings: RewardSection) -> str:
    """Why an answer has no judgement; empty where all have one."""
    failed = [(kind, verdict) for kind, verdict in one.verdicts.items() if verdict.failed]
    if not failed:
        return ""
    kind, verdict = failed[0]
    remedy = (
        f"; make it faster, or raise reward.timeout_s = {settings.timeout_s:g}" if verdict.kind == "timeout" else ""
    )
    others = f" (and for {len(failed) - 1} of {len(one.verdicts)} other answers)" if len(failed) > 1 else ""
    return f"no reward for the {kind} answer to {_named(one.task)}{others}: {verdict.text}{remedy}"


def _doubts(probed: Sequence[Probed], settings: RewardSection) -> list[str]:
    verdicts = [verdict for one in probed for verdict in one.verdicts.values()]
    found = []
    for name in verdicts[0].components if len(settings.all_scorers) > 1 else ():
        values = {verdict.components[name] for verdict in verdicts}
        if len(values) == 1:
            found.append(f"the component {name} was {values.pop():g} for every answer")
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
