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

from pipeline.problems.operator_rules import HELDOUT_WORDING, WITH_RULE
from pipeline.problems.operators import OperatorParams, operands, practice_operator
from pipeline.sft.lessons import all_lessons
from pipeline.sft.operator_practice import TRAINED_RULES, guess, rule_line, some_words, worked
from prompts.render import render, render_lessons
from prompts.schemas import Scratch
from prompts.sets import templates_of

CODE_VERSION = 4
"""Part of the identity of the small model: raise it whenever the way it is trained changes."""
_STATED = (
    "{question} {rule}",
    "{rule} {question}",
    "{name} means: {words}. {question}",
    WITH_RULE,
    "To {name} two numbers, {words}. {question}",
)
NOTES_SHARE = 0.3
"""Of the problems that tell their rule, those that have notes on other names before them."""
KNOWN_SHARE = 0.8
"""Of the names that are asked for, those that a note is on."""
ANY_WORDS_SHARE = 0.4
"""Of the notes, those that say any words: who looks up a name says what stands there, not what is usual."""
NAMES_SHARE = 0.7
"""Of the texts to be repeated, those that are names."""
REMARKS = (
    "The problem is about. Lesson 1 is about tells it. a guess, no lesson is wrong: Verdict: right. wrong. "
    'it is right. It shows no steps. It says ends before the answer. The answer is, not {"critique":" '
    '","flow_of_thought":" ","principles":[" "],"pitfalls":["An addition comes out wrong. A product A subtraction '
    'Check each again. Another number than"]}'
)
Exchange = tuple[str, str]


def texts(num: int, seed: int) -> list[dict[str, Any]]:
    """`num` texts as pairs of one question and its answer, in the form of SFT pairs."""
    rng = random.Random(f"small:{seed}")
    kinds: list[Callable[[OperatorParams, random.Random], Exchange]] = [
        stated, noted, guessed, computed, reworded, repeated,
    ]  # fmt: skip
    found = []
    for kind in rng.choices(kinds, [0.27, 0.25, 0.07, 0.25, 0.06, 0.1], k=num):
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
    question = rng.choice(_STATED).format(
        name=operator.name, words=words, rule=rule_line(operator.name, words), question=operator.question(left, right)
    )
    if rng.random() < NOTES_SHARE:
        question = "\n".join([*_notes(params, rng, rng.randint(1, 2)).values(), question])
    return question, worked(operator, words, left, right).text


def noted(params: OperatorParams, rng: random.Random) -> Exchange:
    """Notes on some names, and what they say of the names that are asked for; of one that no note is on a guess."""
    notes = _notes(params, rng, rng.randint(1, 5))
    unknown = practice_operator(params, rng)
    asked = [rng.choice(list(notes)) if rng.random() < KNOWN_SHARE else unknown.name for _ in range(rng.randint(1, 3))]
    guess = rule_line(unknown.name, some_words(unknown.rule, rng))
    listed = [f"{number}. {note}" for number, note in enumerate(notes.values(), 1)]
    question = "\n".join(["Notes:", *listed, f"What is the rule of {', of '.join(asked)}?"])
    return question, "\n".join(notes.get(name, guess) for name in asked)


def _notes(params: OperatorParams, rng: random.Random, num: int) -> dict[str, str]:
    """Rules by the names that they are of."""
    names = [practice_operator(params, rng).name for _ in range(num)]
    return {name: rule_line(name, _said(rng)) for name in names}


def _said(rng: random.Random) -> str:
    if rng.random() < ANY_WORDS_SHARE:
        return " ".join(rng.sample(_vocabulary(), rng.randint(5, 12))).rstrip(".")
    return some_words(rng.choice(TRAINED_RULES), rng)


def guessed(params: OperatorParams, rng: random.Random) -> Exchange:
    """A problem that does not tell its rule: one is taken, as the prior has it."""
    operator = practice_operator(params, rng)
    left, right = operands(params, rng)
    return operator.question(left, right), guess(operator.name, left, right, params, rng).text


def reworded(params: OperatorParams, rng: random.Random) -> Exchange:
    """A rule in other words."""
    rule = rng.choice(TRAINED_RULES)
    one, other = rng.sample(range(HELDOUT_WORDING), 2)
    return f"In other words: {rule.words(one)}.", f"{rule.words(other)}."


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
    """Names, or words of prompts and lessons, in any order, to be said again: so the words become tokens."""
    if rng.random() < NAMES_SHARE:
        words = [practice_operator(params, rng).name for _ in range(rng.randint(6, 16))]
    else:
        words = rng.sample(_vocabulary(), rng.randint(3, 8))
    said = " ".join(words)
    return f"Repeat: {said}", said


@cache
def _vocabulary() -> list[str]:
    """The words of prompts, lessons, critiques and wordings that are not held out."""
    prompts = list(templates_of("compact").texts.values())
    lessons = [render_lessons((lesson,)) for lesson in all_lessons()]
    rules = [rule.words(wording) for rule in TRAINED_RULES for wording in range(HELDOUT_WORDING)]
    words = {word for text in (*prompts, *lessons, *rules, REMARKS) for word in text.split() if "{" not in word}
    return sorted(words)
