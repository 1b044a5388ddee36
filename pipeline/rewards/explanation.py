"""Why a verdict is what it is, in words: what was extracted, by which mark, what it was compared with, by which rule.

Pure. The verdict is given (`pipeline.rewards.verifier`); nothing is graded here a second time: the rule is read off
the shapes of both answers, which takes no computer algebra."""

from __future__ import annotations

from itertools import chain

from pipeline.errors import LanpoError
from pipeline.rewards.code.extraction import code_blocks
from pipeline.rewards.extraction import cleaned, concluded, extract_answer
from pipeline.rewards.math.answer_types import (
    Assigned,
    Choice,
    Group,
    Listing,
    Matrix,
    NamedValue,
    Relation,
    Shape,
    Value,
    Words,
)
from pipeline.rewards.math.equality import fraction_of
from pipeline.rewards.math.expressions import TooLargeError, UnreadableError
from pipeline.rewards.math.parsing import shape_of
from pipeline.rewards.math.tokens import tokens_of, written
from pipeline.text import strip_think
from pipeline.types import Label, Record, Verdict

UNREAD = "nothing that can be read"
_KINDS = {
    Value: "a value",
    Words: "words",
    Choice: "a choice",
    Group: "items in brackets",
    Listing: "a list in any order",
    Matrix: "a matrix",
    Relation: "an equation or inequality",
    NamedValue: "a value with its name",
    Assigned: "values of several names",
}


class Explanation(Record):
    """Of one verdict. `extracted` is None where no answer was found; `compared_with` are the gold answers, empty where
    tests or a function decide."""

    extracted: str | None
    mark: str
    compared_with: tuple[str, ...]
    rule: str


def explained(text: str, label: Label, verdict: Verdict, scorer: str) -> Explanation:
    """Why the response `text` got `verdict` from `scorer`, a value of `reward.scorer`."""
    if scorer in ("auto", "code") and "tests" in label.entry:
        return _of_program(text, label, verdict)
    if scorer not in ("auto", "math", "format"):
        said = verdict.text or f"the scorer gave {verdict.score:g}"
        return Explanation(extracted=extract_answer(text), mark="", compared_with=label.answers, rule=said)
    conclusion = concluded(strip_think(text))
    extracted = cleaned(conclusion.answer) or None if conclusion.answer is not None else None
    found = Explanation(extracted=extracted, mark=conclusion.mark, compared_with=label.answers, rule="")
    return found.model_copy(update={"rule": _rule(extracted, label, verdict, scorer)})


def _of_program(text: str, label: Label, verdict: Verdict) -> Explanation:
    num = len(code_blocks(text))
    mark = f"a code block of {num}" if num else "the lines that are code"
    name = label.entry.get("entry_point")
    rule = verdict.text or {
        "no_answer": f"no program was found{f' that defines {name}' if name else ''}",
        "timeout": "the tests were not done in time",
        "error": "the tests could not be run",
    }.get(verdict.kind, "all tests passed" if verdict.correct else "a test failed")
    return Explanation(extracted=verdict.answer, mark=mark if verdict.answer else "", compared_with=(), rule=rule)


def _rule(extracted: str | None, label: Label, verdict: Verdict, scorer: str) -> str:
    if verdict.failed:
        return f"no verdict: {verdict.text or verdict.kind}"
    if extracted is None:
        return "no answer was found: no mark, and the last line ends with no value"
    if verdict.text and not verdict.correct:
        return verdict.text
    if scorer == "format":
        return "an answer was found, and nothing is compared"
    if scorer == "auto" and "family" in label.entry:
        return f"the scorer of the task family {label.entry['family']} gave {verdict.score:g}"
    rules = [_equal(gold, extracted) if verdict.correct else _unequal(gold, extracted) for gold in label.answers]
    if not verdict.correct:
        return "; ".join(dict.fromkeys(rules))
    tolerance = label.entry.get("tolerance")
    return next(filter(None, rules), f"within the error {tolerance} that the problem allows" if tolerance else "equal")


def _equal(gold: str, answer: str) -> str:
    """By which rule the two are one answer; empty where nothing simple tells."""
    if cleaned(gold) == cleaned(answer):
        return "the same text"
    if (number := fraction_of(cleaned(gold))) is not None and number == fraction_of(cleaned(answer)):
        return "the same number"
    if written(tokens_of(gold)) == written(tokens_of(answer)):
        return "the same signs, spelled otherwise"
    kinds = [_kind(_shape(text)) for text in (gold, answer)]
    if UNREAD in kinds:
        return ""
    return f"equal as {kinds[0]}" if kinds[0] == kinds[1] else f"{kinds[1]} that says what {kinds[0]} says"


def _unequal(gold: str, answer: str) -> str:
    one, two = (_unnamed(_shape(text)) for text in (gold, answer))
    if one is None or two is None:
        unread = " and ".join(name for name, shape in (("the gold answer", one), ("the answer", two)) if shape is None)
        return f"{unread} could not be read as mathematics, and the texts differ"
    kinds = _kind(one), _kind(two)
    if kinds[0] != kinds[1]:
        return f"the gold answer is {kinds[0]}, the answer {kinds[1]}"
    nums = len(_items(one)), len(_items(two))
    return (
        f"each is {kinds[0]}, of {nums[0]} and of {nums[1]} items"
        if nums[0] != nums[1]
        else f"each is {kinds[0]}, and they differ"
    )


def _shape(text: str) -> Shape | None:
    """What `text` is read as."""
    try:
        return shape_of(tokens_of(text))
    except (TooLargeError, UnreadableError, LanpoError, RecursionError):
        return None


def _unnamed(shape: Shape | None) -> Shape | None:
    """`x = 5` as 5: a name before a value is no difference by itself."""
    return shape.value if isinstance(shape, NamedValue) and shape.is_name else shape


def _kind(shape: Shape | None) -> str:
    return UNREAD if shape is None else _KINDS[type(shape)]


def _items(shape: Shape) -> tuple[Shape | None, ...]:
    match shape:
        case Listing(items) | Group(_, _, items):
            return items
        case Matrix(rows):
            return tuple(chain.from_iterable(rows))
        case Assigned(values):
            return tuple(values.values())
    return (shape,)
