"""Families of small Python exercises. A family draws one exercise from a random generator; nothing here knows of
splits, seeds or labels.

An exercise's `body` is the reference: it makes the expected values, and goes no further than the tests of this
project."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from typing import Any, NamedTuple

WORDS = (
    "apple", "river", "stone", "cloud", "tiger", "bread", "green", "seven", "house", "light", "paper", "music", "garden",
    "window", "orange", "silver", "animal", "a", "to", "be", "sun", "cat", "sky", "tree", "blue", "moon", "road", "ship",
)  # fmt: skip


class Exercise(NamedTuple):
    """`description` goes on after 'Write a Python function `name(parameters)` that'."""

    name: str
    parameters: str
    description: str
    body: str
    cases: list[tuple[Any, ...]]

    @property
    def question(self) -> str:
        return f"Write a Python function `{self.name}({self.parameters})` that {self.description}."

    @property
    def reference(self) -> str:
        lines = "".join(f"    {line}\n" for line in self.body.splitlines())
        return f"def {self.name}({self.parameters}):\n{lines}"


Family = Callable[[random.Random], Exercise]


def formula(rng: random.Random) -> Exercise:
    a, b = rng.sample(range(2, 30), 2)
    forms = ("{a} * x + {b}", "{a} * x - {b}", "x * x + {b}", "(x + {a}) * {b}", "(x - {a}) * {b}")
    expression = rng.choice(forms).format(a=a, b=b)
    name = rng.choice(("calculate", "compute", "formula", "evaluate"))
    return Exercise(name, "x", f"returns `{expression}`", f"return {expression}", _near(rng, a, b))


def formula_of_two(rng: random.Random) -> Exercise:
    a, b = rng.sample(range(2, 30), 2)
    forms = ("{a} * x + {b} * y", "{a} * x - {b} * y", "x * y + {a}", "x * y - {a}", "(x + {a}) * (y + {b})")
    expression = rng.choice(forms).format(a=a, b=b)
    name = rng.choice(("combine", "compute", "mix", "calculate"))
    return Exercise(name, "x, y", f"returns `{expression}`", f"return {expression}", _pairs(rng))


def described_formula(rng: random.Random) -> Exercise:
    a, b = rng.sample(range(2, 30), 2)
    words, expression = rng.choice(
        (
            (f"multiplies x by {a}, then adds {b}, and returns the result", f"x * {a} + {b}"),
            (f"multiplies x by {a}, then subtracts {b}, and returns the result", f"x * {a} - {b}"),
            (f"adds {a} to x, then multiplies by {b}, and returns the result", f"(x + {a}) * {b}"),
            (f"subtracts {a} from x, then multiplies by {b}, and returns the result", f"(x - {a}) * {b}"),
            (f"returns the square of x plus {a}", f"x ** 2 + {a}"),
        )
    )
    name = rng.choice(("transform", "change", "convert", "scale"))
    return Exercise(name, "x", words, f"return {expression}", _near(rng, a, b))


def comparison(rng: random.Random) -> Exercise:
    words, operator, names = rng.choice(
        (
            ("greater than", ">", ("is_greater", "is_large", "is_above")),
            ("less than", "<", ("is_less", "is_small", "is_below")),
            ("at least", ">=", ("is_enough", "reaches", "is_at_least")),
            ("at most", "<=", ("fits", "is_within", "is_at_most")),
        )
    )
    limit = rng.randint(-50, 150)
    description = f"returns True if x is {words} {limit}, and False otherwise"
    return Exercise(rng.choice(names), "x", description, f"return x {operator} {limit}", _near(rng, limit))


def divisibility(rng: random.Random) -> Exercise:
    a, b = rng.sample(range(2, 13), 2)
    words, expression = rng.choice(
        (
            (f"divisible by {a * b}", f"n % {a * b} == 0"),
            (f"divisible by {a}", f"n % {a} == 0"),
            (f"divisible by {a} or by {b}", f"n % {a} == 0 or n % {b} == 0"),
            (f"divisible by {a} but not by {b}", f"n % {a} == 0 and n % {b} != 0"),
        )
    )
    description = f"returns True if n is {words}, and False otherwise"
    # Not `check`: that is what a test in the manner of HumanEval defines.
    name = rng.choice(("is_divisible", "divides", "check_number", "is_multiple"))
    cases = [(value,) for value in (1, a, b, a + 1, 3 * a, 2 * b, a * a, a * b, a * b + 1, 2 * a * b, 3 * a * b)]
    return Exercise(name, "n", description, f"return {expression}", cases)


def bound(rng: random.Random) -> Exercise:
    limit = rng.randint(-50, 150)
    words, body, name = rng.choice(
        (
            (f"returns the smaller of x and {limit}", f"return min(x, {limit})", "smaller"),
            (f"returns the larger of x and {limit}", f"return max(x, {limit})", "larger"),
            (f"returns x, but never more than {limit}", f"return min(x, {limit})", "limit"),
            (f"returns x, but never less than {limit}", f"return max(x, {limit})", "limit"),
        )
    )
    return Exercise(name, "x", words, body, _near(rng, limit))


def branch(rng: random.Random) -> Exercise:
    limit = rng.randint(-20, 80)
    high, low = rng.choice((("big", "small"), ("high", "low"), ("warm", "cold"), ("pass", "fail"), ("yes", "no")))
    words, operator = rng.choice((("greater than", ">"), ("less than", "<"), ("at least", ">=")))
    description = f"returns '{high}' if x is {words} {limit}, and '{low}' otherwise"
    body = f"return {high!r} if x {operator} {limit} else {low!r}"
    return Exercise(rng.choice(("label", "classify", "judge")), "x", description, body, _near(rng, limit))


def sum_to(rng: random.Random) -> Exercise:
    start, step = rng.randint(1, 40), rng.randint(2, 12)
    words, body = rng.choice(
        (
            (f"returns the sum of all whole numbers from {start} to n", f"return sum(range({start}, n + 1))"),
            (
                f"returns the sum of all multiples of {step} from 1 to n",
                f"return sum(i for i in range(1, n + 1) if i % {step} == 0)",
            ),
            (
                f"returns the sum of all whole numbers from 1 to n that are not divisible by {step}",
                f"return sum(i for i in range(1, n + 1) if i % {step})",
            ),
            (
                f"returns how many whole numbers from {start} to n are divisible by {step}",
                f"return sum(1 for i in range({start}, n + 1) if i % {step} == 0)",
            ),
        )
    )
    cases = [(start,), (start + 1,), (start + step,), (step,), (2 * step,), (60,), (rng.randint(45, 99),)]
    return Exercise(rng.choice(("total", "sum_up", "count_up")), "n", words, body, cases)


def mapped(rng: random.Random) -> Exercise:
    k = rng.randint(2, 30)
    words, expression = rng.choice(
        (
            (f"multiplied by {k}", f"n * {k}"),
            (f"increased by {k}", f"n + {k}"),
            (f"decreased by {k}", f"n - {k}"),
            (f"squared and then increased by {k}", f"n * n + {k}"),
        )
    )
    description = f"returns a list with every number of the list `numbers` {words}"
    name = rng.choice(("change_all", "map_list", "apply_all", "update"))
    return Exercise(name, "numbers", description, f"return [{expression} for n in numbers]", _lists(rng, k))


def filtered(rng: random.Random) -> Exercise:
    words, condition, k = _condition(rng)
    description = f"returns a list of the numbers in the list `numbers` that are {words}, in the same order"
    name = rng.choice(("select", "keep", "filter_list", "pick"))
    return Exercise(name, "numbers", description, f"return [n for n in numbers if {condition}]", _lists(rng, k))


def counted(rng: random.Random) -> Exercise:
    words, condition, k = _condition(rng)
    description = f"returns how many numbers in the list `numbers` are {words}"
    name = rng.choice(("count", "count_numbers", "how_many"))
    return Exercise(name, "numbers", description, f"return sum(1 for n in numbers if {condition})", _lists(rng, k))


def summed(rng: random.Random) -> Exercise:
    words, condition, k = _condition(rng)
    description = f"returns the sum of the numbers in the list `numbers` that are {words}"
    name = rng.choice(("sum_numbers", "total", "add_up"))
    return Exercise(name, "numbers", description, f"return sum(n for n in numbers if {condition})", _lists(rng, k))


def reduced(rng: random.Random) -> Exercise:
    k = rng.randint(2, 40)
    what, reduction = rng.choice(
        (("sum", "sum(numbers)"), ("largest", "max(numbers)"), ("smallest", "min(numbers)"), ("length", "len(numbers)"))
    )
    noun = {"sum": "sum", "length": "length"}.get(what, f"{what} number")
    words, operator = rng.choice(((f"plus {k}", "+"), (f"minus {k}", "-"), (f"multiplied by {k}", "*")))
    description = f"returns the {noun} of the list `numbers` {words}"
    name = rng.choice(("reduce_list", "compute", "summary"))
    cases = [case for case in _lists(rng, k) if case[0]]
    return Exercise(name, "numbers", description, f"return {reduction} {operator} {k}", cases)


def affixed(rng: random.Random) -> Exercise:
    affix = "".join(rng.sample(string.ascii_lowercase, 2)) + rng.choice(("", "!", "-", "?"))
    words, expression = rng.choice(
        (
            (f"the string `text` with '{affix}' added at the end", f"text + {affix!r}"),
            (f"the string `text` with '{affix}' added at the start", f"{affix!r} + text"),
            (f"the string `text` with '{affix}' added at the start and at the end", f"{affix!r} + text + {affix!r}"),
        )
    )
    return Exercise(
        rng.choice(("add_text", "extend", "mark", "decorate")),
        "text",
        f"returns {words}",
        f"return {expression}",
        _texts(rng),
    )


def repeated(rng: random.Random) -> Exercise:
    k, mark = rng.randint(2, 12), rng.choice(("-", ", ", " ", "+", "/", "_"))
    words, expression = rng.choice(
        (
            (f"the string `text` repeated {k} times", f"text * {k}"),
            (f"the string `text` repeated {k} times, joined by '{mark}'", f"{mark!r}.join([text] * {k})"),
            (f"a list that holds `text` {k} times", f"[text] * {k}"),
        )
    )
    name = rng.choice(("repeat", "repeat_text", "copies"))
    return Exercise(name, "text", f"returns {words}", f"return {expression}", _texts(rng))


def counted_letters(rng: random.Random) -> Exercise:
    a, b = rng.sample(string.ascii_lowercase, 2)
    words, expression = rng.choice(
        (
            (f"how many times the letter '{a}' occurs in the string `text`", f"text.count({a!r})"),
            (
                f"how many letters of the string `text` are '{a}' or '{b}'",
                f"text.count({a!r}) + text.count({b!r})",
            ),
            (f"how many letters of the string `text` are not '{a}'", f"len(text) - text.count({a!r})"),
        )
    )
    name = rng.choice(("count_letter", "count_letters", "letters"))
    return Exercise(name, "text", f"returns {words}", f"return {expression}", _texts(rng, a, b))


def replaced(rng: random.Random) -> Exercise:
    a, b = rng.sample(string.ascii_lowercase, 2)
    words, expression = rng.choice(
        (
            (f"with every '{a}' replaced by '{b}'", f"text.replace({a!r}, {b!r})"),
            (f"with every '{a}' removed", f"text.replace({a!r}, '')"),
            (f"with every '{a}' doubled", f"text.replace({a!r}, {a + a!r})"),
        )
    )
    name = rng.choice(("replace_letter", "swap", "rewrite", "edit"))
    return Exercise(name, "text", f"returns the string `text` {words}", f"return {expression}", _texts(rng, a, b))


def sliced(rng: random.Random) -> Exercise:
    k = rng.randint(2, 20)
    variable, noun = rng.choice((("text", "characters"), ("items", "items")))
    kind = "string" if variable == "text" else "list"
    words, expression = rng.choice(
        (
            (f"the first {k} {noun} of the {kind} `{variable}`", f"{variable}[:{k}]"),
            (f"the last {k} {noun} of the {kind} `{variable}`", f"{variable}[-{k}:]"),
            (f"the {kind} `{variable}` without its first {k} {noun}", f"{variable}[{k}:]"),
            (f"the {kind} `{variable}` without its last {k} {noun}", f"{variable}[:-{k}]"),
        )
    )
    lengths = (k - 1, k, k + 1, k + 3, 2 * k + 1)
    letters: list[Any] = ["".join(rng.choices(string.ascii_lowercase, k=length)) for length in lengths]
    cases = [(value if variable == "text" else list(value),) for value in letters]
    name = rng.choice(("part", "cut", "piece", "shorten"))
    return Exercise(name, variable, f"returns {words}", f"return {expression}", cases)


def words_chosen(rng: random.Random) -> Exercise:
    letter, k = rng.choice("abceghlmoprstw"), rng.randint(1, 6)
    description, condition = rng.choice(
        (
            (f"start with the letter '{letter}'", f"w.startswith({letter!r})"),
            (f"contain the letter '{letter}'", f"{letter!r} in w"),
            (f"have more than {k} letters", f"len(w) > {k}"),
            (f"have exactly {k} letters", f"len(w) == {k}"),
        )
    )
    words, body = rng.choice(
        (
            (
                f"a list of the words in the string `text` that {description}",
                f"return [w for w in text.split() if {condition}]",
            ),
            (
                f"how many words in the string `text` {description}",
                f"return sum(1 for w in text.split() if {condition})",
            ),
        )
    )
    matching = [word for word in WORDS if letter in word or len(word) in (k, k + 1)]
    cases = [(" ".join([*rng.choices(WORDS, k=4), *rng.choices(matching, k=num)]),) for num in (0, 1, 2, 3, 4, 2)]
    return Exercise(rng.choice(("find_words", "words", "choose_words")), "text", f"returns {words}", body, cases)


def _condition(rng: random.Random) -> tuple[str, str, int]:
    """A condition on a number `n`, in words and in Python, and the number that it is about."""
    k, divisor = rng.randint(-20, 60), rng.randint(2, 12)
    return rng.choice(
        (
            (f"greater than {k}", f"n > {k}", k),
            (f"less than {k}", f"n < {k}", k),
            (f"divisible by {divisor}", f"n % {divisor} == 0", divisor),
            (f"not equal to {k}", f"n != {k}", k),
        )
    )


def _near(rng: random.Random, *numbers: int) -> list[tuple[int]]:
    """Single arguments: around each of `numbers`, and some at random."""
    values = [0, *(number + near for number in numbers for near in (-1, 0, 1)), *rng.sample(range(-99, 200), 4)]
    return [(value,) for value in dict.fromkeys(values)]


def _pairs(rng: random.Random) -> list[tuple[int, int]]:
    return [(0, 0), (1, 0), (0, 1), (2, 3), (-4, 5), *((rng.randint(-50, 50), rng.randint(-50, 50)) for _ in range(3))]


def _lists(rng: random.Random, k: int) -> list[tuple[list[int]]]:
    """Single arguments: lists in which `k`, its neighbours and its multiples are."""
    drawn = [rng.sample(range(-60, 120), num) for num in (1, 4, 6, 9)]
    return [([],), ([k - 1, k, k + 1],), ([2 * k, 5, 3 * k, k, 7],), *((values,) for values in drawn)]


def _texts(rng: random.Random, *letters: str) -> list[tuple[str]]:
    """Single arguments: words, and strings in which `letters` are frequent."""
    alphabet = "".join(letters) * 4 + string.ascii_lowercase
    drawn = ["".join(rng.choices(alphabet, k=num)) for num in (1, 5, 8, 12)]
    return [("",), *((word,) for word in rng.sample(WORDS, 2)), *((text,) for text in drawn)]


FAMILIES: dict[str, Family] = {
    family.__name__: family
    for family in (
        formula, formula_of_two, described_formula, comparison, divisibility, bound, branch, sum_to, mapped, filtered,
        counted, summed, reduced, affixed, repeated, counted_letters, replaced, sliced, words_chosen,
    )
}  # fmt: skip
