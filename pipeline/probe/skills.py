"""The four skills, one problem at a time: what the model is shown, and what is noted of its answers.

| skill | under which conditions |
|---|---|
| follow | no lesson; a lesson; one that contradicts it; one of another operator; text without content of equal length |
| ignore | no lesson; an irrelevant one; a wrong one; text without content; lessons of a pool, where there is one |
| summarise | an attempt that the model sampled, whole or cut: the lesson alone tells which rule the attempt followed |
| inspect | attempts that the model sampled, right, wrong and cut, each shown for a critique |

All but the attempts is greedy. A measure is noted of a problem as a whole or not at all."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, Literal, NamedTuple

from pydantic import Field
from rapidfuzz import fuzz

from pipeline.evaluation.modes import Turn
from pipeline.hashing import seed_of
from pipeline.probe.grounds import OPERATORS, Ground, Operators, whole_number
from pipeline.probe.lessons import Taught, content_free
from pipeline.probe.policy import Policy
from pipeline.problems.operator_rules import BY_NAME, HELDOUT_WORDING, NUM_WORDINGS, RARE, RULES, UNSEEN, Rule
from pipeline.types import Context, Record, Task, Verdict
from prompts.render import render_lessons
from prompts.schemas import Lesson

Skill = Literal["follow", "ignore", "summarise", "inspect"]
SKILLS: tuple[Skill, ...] = ("follow", "ignore", "summarise", "inspect")
NONE, LESSON, CONTRARY, IRRELEVANT, FREE, WRONG = (
    "no lesson", "lesson", "contradicting lesson", "irrelevant lesson", "content-free", "wrong lesson"
)  # fmt: skip
OWN, OWN_FREE = "lessons of the pool", "content-free like those"
BY_USE, BY_WORDS, SUMMARY, ATTEMPT, FRESH, CRITIQUE = "by use", "by words", "summary", "attempt", "fresh", "critique"
MAX_ATTEMPTS = 4
"""At a problem, to find a right and a wrong one."""
NUM_CHOICES = 4
"""Rules among which a lesson has to tell its own."""
WHOLE_SHARE, HALF_SHARE = 0.75, 0.5
"""Of its characters that a cut attempt keeps: for a summary, which needs the method; for a critique."""


class Answer(Record):
    """One line of answers.jsonl: what the model was shown (`turn`), and what is made of its answer.

    `expected` is what a model with the skill answers, `correct` whether this one did; `traits` are what tables are
    divided by."""

    skill: Skill
    ground: str
    condition: str
    problem_id: str
    traits: dict[str, str] = Field(default_factory=dict)
    expected: str = ""
    answer: str | None = None
    correct: bool
    turn: Turn


class Amount(NamedTuple):
    """How much is measured at a problem; `brief` leaves controls out that cost as much as the measure."""

    max_tokens: int
    brief: bool = False


async def follow(policy: Policy, operators: Operators, number: int, amount: Amount) -> list[Answer]:
    """Problem `number` under a lesson and another that contradicts it, each shown alone.

    In turn the rules are of those that the problems have, the first being the operator's own, and of those that no
    training has; the wordings are of training, and not."""
    task = operators.tasks[number]
    operator, numbers = operators.operator(task), operators.numbers(task)
    rng = random.Random(seed_of("follow", task.problem.id))
    is_unseen, is_heldout = number % 2 == 1, number // 2 % 2 == 1
    wording = HELDOUT_WORDING if is_heldout else rng.randrange(HELDOUT_WORDING)
    if is_unseen:
        one, two = rng.sample(UNSEEN, 2)
    else:
        one = operator.rule
        two = rng.choice([rule for rule in RARE if rule != one])
    lesson, contrary = (operators.lesson(task, rule, wording) for rule in (one, two))
    shown = {
        LESSON: lesson.context,
        CONTRARY: contrary.context,
        FREE: content_free(lesson, keep=(operator.name,)).context,
    }
    if not amount.brief:
        shown |= {NONE: Context(), IRRELEVANT: operators.irrelevant(task).context}
    turns = await together(*(policy.solve(task.problem, amount.max_tokens, context) for context in shown.values()))
    traits = {
        "rules": "unseen" if is_unseen else "of the problems",
        "wording": "unseen" if is_heldout else "of training",
    }
    found = []
    for condition, turn in zip(shown, turns, strict=True):
        value, expected = whole_number(policy.visible(turn)), (two if condition == CONTRARY else one).value(*numbers)
        found.append(
            Answer(
                skill="follow", ground=OPERATORS, condition=condition, problem_id=task.problem.id, traits=traits,
                expected=str(expected), answer=None if value is None else str(value), correct=value == expected,
                turn=turn,
            )
        )  # fmt: skip
    return found


async def ignore(policy: Policy, ground: Ground, number: int, amount: Amount) -> list[Answer]:
    """Problem `number`, which needs no lesson, under lessons that do not help."""
    task = ground.benchmark.tasks[number]
    irrelevant = ground.irrelevant(task)
    shown = {NONE: Context(), IRRELEVANT: irrelevant.context}
    if not amount.brief:
        shown[FREE] = content_free(irrelevant).context
        if (wrong := ground.wrong(task)) is not None:
            shown[WRONG] = wrong.context
    if ground.search is not None:
        context = (await ground.search(task.problem)).context
        if context.kind == "inter":
            free = tuple(content_free(Taught(lesson, "")).lesson for lesson in context.lessons)
            shown |= {OWN: context, OWN_FREE: context.model_copy(update={"lessons": free})}
    turns = await together(*(policy.solve(task.problem, amount.max_tokens, context) for context in shown.values()))
    return [
        await _graded(policy, ground, task, "ignore", condition, turn)
        for condition, turn in zip(shown, turns, strict=True)
    ]


async def summarise(policy: Policy, operators: Operators, number: int, amount: Amount) -> list[Answer]:
    """Problem `number` is solved by a rule that is told for it; a lesson is made of the attempt, as in training, and
    read by someone who has nothing else.

    The attempt's own answer identifies the rule that it followed, whichever it was told; an attempt by no rule has
    nothing to tell, and is noted alone."""
    task = operators.tasks[number]
    stated = operators.stated_one(task, number)
    asked_for, numbers = BY_NAME[stated.label.entry["metadata"]["rule"]], operators.numbers(task)
    attempt = await policy.solve(stated.problem, amount.max_tokens, sample=0)
    text = policy.visible(attempt)
    value = whole_number(text)
    used = next((rule for rule in RULES if rule.value(*numbers) == value), None)
    noted = Answer(
        skill="summarise", ground=OPERATORS, condition=ATTEMPT, problem_id=task.problem.id,
        traits={"told": asked_for.name, "used": used.name if used else "none"}, expected=stated.label.answer,
        answer=None if value is None else str(value), correct=used == asked_for, turn=attempt,
    )  # fmt: skip
    if used is None:
        return [noted]
    kinds = {"right" if used == asked_for else "wrong": text}
    if not amount.brief:
        kinds["cut"] = text[: int(len(text) * WHOLE_SHARE)]
    read = await together(
        *(
            _read(policy, operators, task, used, _Shown(kind, shown, stated.label.answer), amount)
            for kind, shown in kinds.items()
        )
    )
    return [noted, *(answer for answers in read for answer in answers)]


class _Shown(NamedTuple):
    """An attempt as the summarizer sees it; `gold` is the answer of its problem."""

    kind: str
    text: str
    gold: str


async def _read(
    policy: Policy, operators: Operators, task: Task, used: Rule, shown: _Shown, amount: Amount
) -> list[Answer]:
    """The lesson of an attempt that followed the rule `used`, and what two readers take it for: the model, who solves
    another problem of the operator with it, and the words of the rules."""
    answer = None if shown.kind == "cut" else str(used.value(*operators.numbers(task)))
    is_right = shown.kind == "right"
    verdict = Verdict(kind="scored" if answer else "no_answer", score=is_right, correct=is_right, answer=answer)
    made = await policy.summarise(task.problem, shown.gold, shown.text, verdict)
    last = made.turns[-1]
    traits = {"attempt": shown.kind, "used": used.name, "rejected": made.reason}

    def noted(condition: str, chosen: str | None, turn: Turn) -> Answer:
        return Answer(
            skill="summarise", ground=OPERATORS, condition=condition, problem_id=task.problem.id, traits=traits,
            expected=used.name, answer=chosen, correct=chosen == used.name, turn=turn,
        )  # fmt: skip

    if made.lesson is None:
        return [noted(condition, None, last) for condition in (BY_USE, BY_WORDS)]
    twin = operators.twin(task)
    turn = await policy.solve(twin.problem, amount.max_tokens, Taught(made.lesson, task.problem.text).context)
    value, choices = whole_number(policy.visible(turn)), _choices(used, task.problem.id)
    by_use = next((rule.name for rule in choices if rule.value(*operators.numbers(twin)) == value), None)
    return [noted(BY_USE, by_use, turn), noted(BY_WORDS, by_words(made.lesson, choices), last)]


def _choices(used: Rule, problem_id: str) -> list[Rule]:
    rng = random.Random(seed_of("choices", problem_id, used.name))
    choices = [used, *rng.sample([rule for rule in RULES if rule != used], NUM_CHOICES - 1)]
    rng.shuffle(choices)
    return choices


def by_words(lesson: Lesson, choices: list[Rule]) -> str | None:
    """The one of `choices` whose words, in any wording, the lesson holds most of; None where two are as near."""
    text = render_lessons((lesson,)).lower()
    nearness = {
        rule.name: max(fuzz.partial_ratio(rule.words(wording), text) for wording in range(NUM_WORDINGS))
        for rule in choices
    }
    first, second = sorted(nearness.values(), reverse=True)[:2]
    return max(nearness, key=lambda name: nearness[name]) if first > second else None


async def inspect(policy: Policy, ground: Ground, number: int, amount: Amount) -> list[Answer]:
    """Attempts at problem `number`, sampled until a right and a wrong one are there, each shown for a critique."""
    task = ground.benchmark.tasks[number]
    kinds: dict[str, str] = {}
    first = ""
    for sample in range(1 if amount.brief else MAX_ATTEMPTS):
        turn = await policy.solve(task.problem, amount.max_tokens, sample=sample)
        text = policy.visible(turn)
        first = first or text
        graded = await ground.grade(text, task)
        kinds.setdefault("right" if graded.correct else "wrong", text)
        if len(kinds) == 2:
            break
    if not amount.brief:
        kinds["cut"] = first[: int(len(first) * HALF_SHARE)]
    shown = {kind: text for kind, text in kinds.items() if text.strip()}
    turns = await together(*(policy.reflect(task.problem, text, amount.max_tokens) for text in shown.values()))
    found = [
        await _graded(policy, ground, task, "inspect", CRITIQUE, turn, attempt=kind)
        for kind, turn in zip(shown, turns, strict=True)
    ]
    if "wrong" in shown and not amount.brief:
        fresh = await policy.solve(task.problem, amount.max_tokens)
        found.append(await _graded(policy, ground, task, "inspect", FRESH, fresh, attempt="wrong"))
    return found


async def _graded(
    policy: Policy, ground: Ground, task: Task, skill: Skill, condition: str, turn: Turn, **traits: str
) -> Answer:
    graded = await ground.grade(policy.visible(turn), task)
    return Answer(
        skill=skill, ground=ground.name, condition=condition, problem_id=task.problem.id, traits=traits,
        expected=task.label.answer, answer=graded.answer, correct=graded.correct, turn=turn,
    )  # fmt: skip


async def together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """The results of all, or the first failure once all have ended: what was paid for is kept."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return list(results)
