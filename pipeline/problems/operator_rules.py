"""The rules that an invented operator may follow: two steps of arithmetic on the numbers at its sides, in words and in
equations.

Invariants: on operands that `are_telling` allows no two rules give the same result, so a right answer identifies its
rule; words hold no digit; the last of a rule's wordings (`HELDOUT_WORDING`) is for measuring only, as are the
`UNSEEN` rules: no training text has them. `RARE` are the rules of the problems, `COMMON` those that a solver without
any hint is inclined to."""

from __future__ import annotations

from typing import Literal, NamedTuple

_VERBS = {2: "double", 3: "triple", 4: "quadruple", 5: "quintuple"}
_TIMES = {2: "two times", 3: "three times", 4: "four times", 5: "five times"}
_PLACES = ("first", "second")
WITH_RULE = "{question} Here is the rule of {name}: {words}."
"""A problem that tells the rule of its operator."""
NUM_WORDINGS = 7
HELDOUT_WORDING = NUM_WORDINGS - 1


class Rule(NamedTuple):
    """`scale`: factor times the number at `place`, then the other one added or subtracted; `total`: both numbers
    joined, then factor times the result. A difference begins with the number at `place`."""

    kind: Literal["scale", "total"]
    factor: int
    place: int
    sign: Literal["+", "-"]

    @property
    def name(self) -> str:
        """Identity of the rule in metadata and tables, for example `double-first-add`."""
        verb, place = _VERBS[self.factor], _PLACES[self.place]
        joined = "add" if self.sign == "+" else "subtract"
        return f"{verb}-{place}-{joined}" if self.kind == "scale" else f"{joined}-from-{place}-{verb}"

    def expression(self, left: int, right: int) -> str:
        """The rule on these operands; its brackets say in which order it is computed."""
        own, other = (left, right) if self.place == 0 else (right, left)
        if self.kind == "scale":
            return f"{self.factor} * {own} {self.sign} {other}"
        return f"{self.factor} * ({own} {self.sign} {other})"

    def value(self, left: int, right: int) -> int:
        own, other = (left, right) if self.place == 0 else (right, left)
        other = other if self.sign == "+" else -other
        return self.factor * own + other if self.kind == "scale" else self.factor * (own + other)

    def words(self, wording: int) -> str:
        """The rule as a command without a capital and a full stop; `wording` is below `NUM_WORDINGS`."""
        own, other = _PLACES[self.place], _PLACES[1 - self.place]
        verb, times = _VERBS[self.factor], _TIMES[self.factor]
        if self.kind == "scale":
            return self._scale_words(wording, own, other, verb, times)
        if self.sign == "+":
            return (
                f"add both numbers, then {verb} the result",
                f"take {times} the sum of both numbers",
                f"{verb} what you get when you add both numbers",
                f"take the sum of both numbers and {verb} it",
                f"with both numbers added, {verb} what you have",
                f"add both numbers, and of that take {times} as much",
                f"take both numbers, add, and of the result take {times} as much",
            )[wording]
        return (
            f"subtract the {other} number from the {own}, then {verb} the result",
            f"take {times} the difference of the {own} number and the {other}",
            f"{verb} what you get when you subtract the {other} number from the {own}",
            f"take the difference of the {own} number and the {other} and {verb} it",
            f"with the {other} number subtracted from the {own}, {verb} what you have",
            f"subtract the {other} number from the {own}, and of that take {times} as much",
            f"take the {own} number, subtract the {other}, and of the result take {times} as much",
        )[wording]

    def _scale_words(self, wording: int, own: str, other: str, verb: str, times: str) -> str:
        if self.sign == "+":
            return (
                f"{verb} the {own} number, then add the {other}",
                f"take {times} the {own} number and add the {other}",
                f"add the {other} number to {times} the {own}",
                f"start with the {own} number, {verb} it, and add the {other}",
                f"when you have {times} the {own} number, add the {other}",
                f"to {times} the {own} number you add the {other}",
                f"add the {other} number when you get {times} the {own}",
            )[wording]
        return (
            f"{verb} the {own} number, then subtract the {other}",
            f"take {times} the {own} number and subtract the {other}",
            f"subtract the {other} number from {times} the {own}",
            f"start with the {own} number, {verb} it, and subtract the {other}",
            f"when you have {times} the {own} number, subtract the {other}",
            f"from {times} the {own} number you subtract the {other}",
            f"subtract the {other} number when you get {times} the {own}",
        )[wording]


_SCALES = [Rule("scale", factor, place, sign) for factor in (2, 3, 4, 5) for place in (0, 1) for sign in ("+", "-")]
_TOTALS = [Rule("total", factor, 0, "+") for factor in (2, 3, 4)]
_DIFFERENCES = [Rule("total", factor, place, "-") for factor in (2, 3) for place in (0, 1)]
RULES: tuple[Rule, ...] = (*_SCALES, *_TOTALS, *_DIFFERENCES)
UNSEEN: tuple[Rule, ...] = (Rule("scale", 3, 0, "-"), Rule("scale", 4, 1, "+"), Rule("total", 3, 0, "+"))
"""Each of their parts occurs in other rules."""
COMMON: tuple[Rule, ...] = (
    Rule("scale", 2, 0, "+"),
    Rule("scale", 2, 1, "+"),
    Rule("scale", 3, 0, "+"),
    Rule("total", 2, 0, "+"),
    Rule("scale", 2, 0, "-"),
    Rule("total", 2, 0, "-"),
)
RARE: tuple[Rule, ...] = tuple(rule for rule in RULES if rule not in COMMON and rule not in UNSEEN)
BY_NAME = {rule.name: rule for rule in RULES}


def are_telling(left: int, right: int) -> bool:
    """Whether all rules give different results for these operands."""
    return len({rule.value(left, right) for rule in RULES}) == len(RULES)
