"""Draws small Python exercises of the families in `code_families.toml` from a random generator; nothing here knows of
splits, seeds or labels.

An exercise's `body` is the reference: it makes the expected values, and goes no further than the tests of this
project."""

from __future__ import annotations

import random
import string
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

WORDS = (
    "apple", "river", "stone", "cloud", "tiger", "bread", "green", "seven", "house", "light", "paper", "music",
    "garden", "window", "orange", "silver", "animal", "a", "to", "be", "sun", "cat", "sky", "tree", "blue", "moon",
    "road", "ship",
)  # fmt: skip
Cases = list[tuple[Any, ...]]


class Exercise(NamedTuple):
    """`description` goes on after 'Write a Python function `name(parameters)` that'."""

    name: str
    parameters: str
    description: str
    body: str
    cases: Cases

    @property
    def question(self) -> str:
        return f"Write a Python function `{self.name}({self.parameters})` that {self.description}."

    @property
    def reference(self) -> str:
        return f"def {self.name}({self.parameters}):\n    {self.body}\n"


def draw(family: dict[str, Any], rng: random.Random) -> Exercise:
    """An exercise of `family`, a table of the file."""
    values = dict(family)
    for names in family["draw"]:
        if names == "product":
            values[names] = values["a"] * values["b"]
        elif names == "cases":
            function, *arguments = values[names].split()
            values[names] = CASES[function](rng, *(values[name] for name in arguments))
        else:
            values |= _drawn(names.split(), values[names], rng, values)
    name, parameters, description, body = (
        values[field].format_map(values) for field in ("name", "parameters", "description", "body")
    )
    return Exercise(name, parameters, description, body, values["cases"])


def _drawn(names: list[str], options: Any, rng: random.Random, values: dict[str, Any]) -> dict[str, Any]:
    """What is drawn of `options` for each of `names`; texts are filled with the `values` drawn before."""
    if isinstance(options, dict):
        options = range(options["least"], options["most"] + 1)
    if len(names) > 1:
        return dict(zip(names, rng.sample(options, len(names)), strict=True))
    option = rng.choice(options)
    found = option if isinstance(option, dict) else {names[0]: option}
    return {key: value.format_map(values) if isinstance(value, str) else value for key, value in found.items()}


def near(rng: random.Random, *numbers: int) -> Cases:
    """Single arguments: around each of `numbers`, and some at random."""
    values = [0, *(number + near for number in numbers for near in (-1, 0, 1)), *rng.sample(range(-99, 200), 4)]
    return [(value,) for value in dict.fromkeys(values)]


def pairs(rng: random.Random) -> Cases:
    return [(0, 0), (1, 0), (0, 1), (2, 3), (-4, 5), *((rng.randint(-50, 50), rng.randint(-50, 50)) for _ in range(3))]


def multiples(rng: random.Random, a: int, b: int) -> Cases:
    return [(value,) for value in (1, a, b, a + 1, 3 * a, 2 * b, a * a, a * b, a * b + 1, 2 * a * b, 3 * a * b)]


def ends(rng: random.Random, start: int, step: int) -> Cases:
    return [(start,), (start + 1,), (start + step,), (step,), (2 * step,), (60,), (rng.randint(45, 99),)]


def lists(rng: random.Random, k: int) -> Cases:
    """Single arguments: lists in which `k`, its neighbours and its multiples are."""
    return [([],), *filled_lists(rng, k)]


def filled_lists(rng: random.Random, k: int) -> Cases:
    drawn = [rng.sample(range(-60, 120), num) for num in (1, 4, 6, 9)]
    return [([k - 1, k, k + 1],), ([2 * k, 5, 3 * k, k, 7],), *((values,) for values in drawn)]


def texts(rng: random.Random, *letters: str) -> Cases:
    """Single arguments: words, and strings in which `letters` are frequent."""
    alphabet = "".join(letters) * 4 + string.ascii_lowercase
    drawn = ["".join(rng.choices(alphabet, k=num)) for num in (1, 5, 8, 12)]
    return [("",), *((word,) for word in rng.sample(WORDS, 2)), *((text,) for text in drawn)]


def sequences(rng: random.Random, k: int, kind: str) -> Cases:
    """Single arguments: strings, or lists of letters, of about `k` items."""
    letters = ["".join(rng.choices(string.ascii_lowercase, k=num)) for num in (k - 1, k, k + 1, k + 3, 2 * k + 1)]
    return [(text if kind == "string" else list(text),) for text in letters]


def sentences(rng: random.Random, letter: str, k: int) -> Cases:
    """Single arguments: words, of which more and more hold `letter` or have about `k` letters."""
    matching = [word for word in WORDS if letter in word or len(word) in (k, k + 1)]
    return [(" ".join([*rng.choices(WORDS, k=4), *rng.choices(matching, k=num)]),) for num in (0, 1, 2, 3, 4, 2)]


CASES: dict[str, Callable[..., Cases]] = {
    function.__name__: function
    for function in (near, pairs, multiples, ends, lists, filled_lists, texts, sequences, sentences)
}
_TABLES = tomllib.loads(Path(__file__).with_name("code_families.toml").read_text(encoding="utf-8"))
FAMILIES: dict[str, Callable[[random.Random], Exercise]] = {
    name: partial(draw, _TABLES.get(table.get("like"), {}) | table) for name, table in _TABLES.items()
}
