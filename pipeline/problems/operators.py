"""Problems on invented operators, whose hidden rule no problem tells and a lesson of another problem can
(`problems.source = "operators"`).

Each operator has a nonsense name, a phrasing and a rule (`pipeline.problems.operator_rules`), drawn by `params.seed`.
A problem asks for its result on two numbers; a right answer identifies the rule, since no two rules agree there.
Held out are other numbers of the same operators (family `operators`) and operators that are never trained
(`operators_unseen`): from a bare prompt the latter can only be guessed, so that they tell reading from remembering.

`practice_operator` draws operators of other names, for SFT: no name, and so no result, of a problem is among them.
Their rules follow a prior: what a solver without any hint is inclined to, with `rare_share` for each of the rules that
the problems have. Problems of one operator are alike in nearly all letters, of two operators in a third to nearly all
of them, by phrasing and name."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache, partial
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, ValidationError

from pipeline.config.base import Positive, Probability, Section
from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.config.validation import invalid_fields
from pipeline.errors import ConfigError
from pipeline.hashing import seed_of
from pipeline.problems.drawing import draw_split
from pipeline.problems.operator_rules import COMMON, RARE, Rule, are_telling
from pipeline.text import text_hash
from pipeline.types import Label, Problem, Split, Task

FAMILY, UNSEEN_FAMILY, PRACTICE_FAMILY = "operators", "operators_unseen", "operators_practice"
PHRASINGS = (
    "In {name} arithmetic the sign {name} joins two numbers. What is {left} {name} {right}?",
    "The {name} of two numbers follows one fixed rule. Give the {name} of {left} and {right}.",
    "A machine called {name} turns two numbers into one. What does it make of {left} and {right}?",
)
LEAST_NUMBER = 2
_ONSETS, _VOWELS, _CODAS = "bdfgklmnprtvwz", "aeiou", "bdfgklmnprtvxz"
# Those that a problem or a rule holds, or that nobody wants to read.
_NO_NAMES = frozenset({"get", "fag", "nig", "tit", "dik"})


class OperatorParams(Section):
    """`params` of the family `operators`."""

    num_operators: Positive = Field(8, description="Operators that are trained.")
    num_unseen: Positive = Field(4, description="Operators that occur among the held-out problems only.")
    unseen_share: Probability = Field(0.25, description="Share of these among the held-out problems.")
    rules: Literal["rare", "common", "any"] = Field("rare", description="Which rules the operators of problems have.")
    rare_share: Annotated[float, Field(gt=0, le=1 / len(RARE))] = Field(
        0.01, description="How often practice has each of the rare rules: about how often a first guess is right."
    )
    num_syllables: Annotated[int, Field(ge=1, le=3)] = Field(
        1, description="Of names. Longer ones make problems of two operators less alike."
    )
    max_number: Annotated[int, Field(ge=12, le=99)] = Field(30, description="Largest number in a problem.")
    seed: int = Field(0, ge=0, description="Of names, phrasings and rules. The numbers are drawn by the run's seed.")


class Operator(NamedTuple):
    name: str
    rule: Rule
    phrasing: str

    def question(self, left: int, right: int) -> str:
        return self.phrasing.format(name=self.name, left=left, right=right)


def generate(settings: ProblemsSection, seed: int) -> tuple[list[Task], list[Task]]:
    """Held-out and training tasks, in this order. Raises ConfigError and DataError."""
    params = params_of(settings)
    seen, unseen = operators(params)
    remedy, taken = ", or raise params.num_operators or params.max_number", set[str]()
    streams = {FAMILY: seen, UNSEEN_FAMILY: unseen}
    draw = partial(_stream, streams, params.max_number)
    share = params.unseen_share
    weights = {name: weight for name, weight in ((FAMILY, 1 - share), (UNSEEN_FAMILY, share)) if weight}
    families = [FamilySettings(name=name, weight=weight) for name, weight in weights.items()]
    heldout = draw_split(settings, families, "heldout", settings.heldout_seed, draw, remedy, taken)
    trained = [FamilySettings(name=FAMILY)]
    return heldout, draw_split(settings, trained, "train", seed, draw, remedy, taken)


def params_of(settings: ProblemsSection) -> OperatorParams:
    """The dials of the source, defaults where no family is named. Raises ConfigError naming field, value and
    remedy."""
    if not settings.families:
        return OperatorParams()
    family = settings.families[0]
    if family.name != FAMILY or len(settings.families) > 1:
        named = ", ".join(one.name for one in settings.families)
        raise ConfigError(
            f"problems.families names {named}: problems.source = 'operators' has one family, 'operators'; use [] for "
            "its defaults"
        )
    try:
        return OperatorParams.model_validate(family.params)
    except ValidationError as error:
        known = list(OperatorParams.model_fields)
        invalid = invalid_fields(error, known, kind="setting of operators", hint=f"; there are {', '.join(known)}")
        raise ConfigError("\n".join(f"problems.families[0].params.{one}" for one in invalid)) from error


@cache
def operators(params: OperatorParams) -> tuple[tuple[Operator, ...], tuple[Operator, ...]]:
    """The operators of the problems, in this order: trained ones, and those that are held out. Names are distinct."""
    rng = random.Random(seed_of("operators", params.seed))
    rules = {"rare": RARE, "common": COMMON, "any": COMMON + RARE}[params.rules]
    num = params.num_operators + params.num_unseen
    names: dict[str, None] = {}
    while len(names) < num:
        names[_name(rng, params.num_syllables, is_practice=False)] = None
    # Each rule once before any of them twice, so that one lesson cannot serve several operators more than need be.
    drawn = [rule for _ in range(-(-num // len(rules))) for rule in rng.sample(rules, len(rules))]
    phrasings = [PHRASINGS[rng.randrange(len(PHRASINGS))] for _ in range(num)]
    found = tuple(Operator(*one) for one in zip(names, drawn[:num], phrasings, strict=True))
    return found[: params.num_operators], found[params.num_operators :]


def practice_operator(params: OperatorParams, rng: random.Random, rules: tuple[Rule, ...] = ()) -> Operator:
    """An operator of a name that no problem has. Its rule is one of `rules`, equally likely; without them it follows
    the prior."""
    name = _name(rng, params.num_syllables, is_practice=True)
    rule = rng.choice(rules) if rules else prior_rule(params, rng)
    return Operator(name, rule, rng.choice(PHRASINGS))


def prior_rule(params: OperatorParams, rng: random.Random) -> Rule:
    """What a first guess is, without any hint: `rare_share` for each rare rule, the rest for common ones, each half as
    often as the one before."""
    if rng.random() < params.rare_share * len(RARE):
        return rng.choice(RARE)
    return rng.choices(COMMON, [0.5**place for place in range(len(COMMON))])[0]


def operands(params: OperatorParams, rng: random.Random) -> tuple[int, int]:
    """Two numbers for which all rules give different results."""
    return rng.choice(_telling(params.max_number))


def task_of(operator: Operator, left: int, right: int, split: Split, family: str) -> Task:
    question = operator.question(left, right)
    problem = Problem(id=f"{family}-{text_hash(question)}", text=question, split=split, family=family)
    answer = str(operator.rule.value(left, right))
    metadata = {"operator": operator.name, "rule": operator.rule.name, "left": left, "right": right}
    return Task(problem=problem, label=Label(problem_id=problem.id, answer=answer, entry={"metadata": metadata}))


@cache
def _telling(most: int) -> tuple[tuple[int, int], ...]:
    numbers = range(LEAST_NUMBER, most + 1)
    return tuple((left, right) for left in numbers for right in numbers if are_telling(left, right))


def _name(rng: random.Random, num_syllables: int, is_practice: bool) -> str:
    """A nonsense word. Whether it is one of practice is a property of the word, so that the two never meet."""
    while True:
        syllables = (rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(num_syllables))
        name = "".join(syllables) + rng.choice(_CODAS)
        if (seed_of(name) % 3 != 0) == is_practice and name not in _NO_NAMES:
            return name


def _stream(
    groups: dict[str, tuple[Operator, ...]],
    most: int,
    family: FamilySettings,
    split: Split,
    seed: int,
    num_draws: int,
    taken: set[str],
) -> Iterator[Task]:
    rng = random.Random(seed_of("operators", split, seed, family.name))
    pairs = _telling(most)
    for _ in range(num_draws):
        operator = rng.choice(groups[family.name])
        left, right = rng.choice(pairs)
        # With its numbers exchanged a problem has the same words and numbers, which is too near for a held-out one.
        if not {text_hash(operator.question(*both)) for both in ((left, right), (right, left))} & taken:
            yield task_of(operator, left, right, split, family.name)
