"""The texts that the small model is made of: arithmetic, stated rules, notes to look up, and first guesses.

They give a model of a few million parameters what the skills need and none of the skills: no text holds a lesson, an
attempt or a critique, so that what it does with these is learned by SFT and reinforcement learning, and can be
measured. Operators have practice names; rules and wordings that are held out occur nowhere
(`pipeline.problems.operator_rules`). Prompts come from `prompts.render`, as everywhere."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

from pipeline.problems.operator_rules import HELDOUT_WORDING
from pipeline.problems.operators import OperatorParams, operands, practice_operator
from pipeline.sft.lessons import all_lessons
from pipeline.sft.operator_practice import TRAINED_RULES, guess, some_words, worked
from prompts.render import render, render_lessons
from prompts.schemas import Scratch
from prompts.sets import templates_of

CODE_VERSION = 3
"""Part of the identity of the small model: raise it whenever the way it is trained changes."""
_STATED = (
    "{name} means: {words}. {question}",
    "{question} Here is the rule of {name}: {words}.",
    "To {name} two numbers, {words}. {question}",
)
REMARKS = (
    "The problem is about. Lesson 1 is about It applies: It does not apply. is wrong: Verdict: right. wrong. it is "
    'right. It shows no steps. It says ends before the answer. The answer is, not {"critique":" ","flow_of_thought":"'
    ' ","principles":[" "],"pitfalls":["An addition comes out wrong. A product A subtraction Check each again. Another '
    'number than"]}'
)
Exchange = tuple[str, str]


def texts(num: int, seed: int) -> list[dict[str, Any]]:
    """`num` texts as pairs of one question and its answer, in the form of SFT pairs."""
    rng = random.Random(f"small:{seed}")
    kinds: list[Callable[[OperatorParams, random.Random], Exchange]] = [stated, noted, guessed, computed, repeated]
    found = []
    for kind in rng.choices(kinds, [0.4, 0.15, 0.1, 0.3, 0.05], k=num):
        params = OperatorParams(num_syllables=rng.choice((1, 1, 2)), max_number=40)
        question, answer = kind(params, rng)
        messages = [{"role": "user", "content": render(Scratch(problem=question), templates_of("compact"))}]
        found.append({"messages": [*messages, {"role": "assistant", "content": answer}]})
    return found


def stated(params: OperatorParams, rng: random.Random) -> Exchange:
    """A problem that tells its rule."""
    operator = practice_operator(params, rng, TRAINED_RULES)
    left, right = operands(params, rng)
    words = some_words(operator.rule, rng)
    question = rng.choice(_STATED).format(name=operator.name, words=words, question=operator.question(left, right))
    return question, worked(operator.rule, words, left, right).text


def noted(params: OperatorParams, rng: random.Random) -> Exchange:
    """Notes on some names, one of which is asked for: they are gone through up to the one on it, if there is one."""
    notes = {practice_operator(params, rng).name: _words(rng) for _ in range(rng.randint(1, 4))}
    listed = [f"{number}. {name}: {words}." for number, (name, words) in enumerate(notes.items(), 1)]
    name = practice_operator(params, rng).name if rng.random() < 0.3 else rng.choice(list(notes))
    lines = [f"It is about {name}."]
    for number, (other, words) in enumerate(notes.items(), 1):
        if other == name:
            return _asked(listed, name), "\n".join([*lines, f"Note {number} is on {other}. It applies: {words}."])
        lines.append(f"Note {number} is on {other}. It does not apply.")
    return _asked(listed, name), "\n".join([*lines, "No note applies."])


def _asked(notes: list[str], name: str) -> str:
    return "\n".join(["Notes:", *notes, f"What do they say of {name}?"])


def guessed(params: OperatorParams, rng: random.Random) -> Exchange:
    """A problem that does not tell its rule: one is taken, as the prior has it."""
    operator = practice_operator(params, rng)
    left, right = operands(params, rng)
    return operator.question(left, right), guess(left, right, params, rng).text


def computed(params: OperatorParams, rng: random.Random) -> Exchange:
    """One operation on two numbers, of the kinds that rules need."""
    factor, number, other = rng.randint(2, 5), rng.randint(2, params.max_number), rng.randint(2, params.max_number)
    product, difference = factor * number, number - other
    expression, value = rng.choice(
        (
            (f"{factor} * {number}", product),
            (f"{product} + {other}", product + other),
            (f"{product} - {other}", product - other),
            (f"{number} + {other}", number + other),
            (f"{number} - {other}", difference),
            (f"{factor} * {difference}", factor * difference),
            (f"{factor} * {number + other}", factor * (number + other)),
        )
    )
    return f"What is {expression}?", f"{expression} = {value}\n\\boxed{{{value}}}"


def repeated(params: OperatorParams, rng: random.Random) -> Exchange:
    """A few words of prompts and lessons in any order, to be said again: so they become tokens of the model."""
    words = " ".join(rng.sample(_vocabulary(), rng.randint(3, 8)))
    return f"Repeat: {words}", words


@cache
def _vocabulary() -> list[str]:
    """The words of prompts, lessons, critiques and wordings that are not held out."""
    prompts = list(templates_of("compact").texts.values())
    lessons = [render_lessons((lesson,)) for lesson in all_lessons()]
    rules = [rule.words(wording) for rule in TRAINED_RULES for wording in range(HELDOUT_WORDING)]
    words = {word for text in (*prompts, *lessons, *rules, REMARKS) for word in text.split() if "{" not in word}
    return sorted(words)


def _words(rng: random.Random) -> str:
    return some_words(rng.choice(TRAINED_RULES), rng)
