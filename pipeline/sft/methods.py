"""Ways to solve a problem, of which only a lesson tells: the ways of a task, and the way that a solution took.

A sum can be worked from the left, from the right, by signs or by size; other arithmetic has the order of its
operations; a program the constructs that it uses. Wordings of a way mean the same; the last of them is for measuring
only (`Method.held_out`), so that a reader of lessons is tested on words that SFT never showed."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.rewards.code.extraction import code_of
from pipeline.sft.worked_solutions import Solution, solve_expression
from pipeline.types import Task


class Method(NamedTuple):
    """A way to solve: what it is about, and in what words it is told, as commands without a capital and a full
    stop."""

    topic: str
    wordings: tuple[str, ...]

    def words(self, rng: random.Random) -> str:
        """A wording that SFT may show."""
        return rng.choice(self.wordings[:-1])

    @property
    def held_out(self) -> str:
        return self.wordings[-1]


SUM_METHODS = {
    "left": Method("sums", (
        "keep a running total from left to right",
        "begin with the first term and take the next one each time",
        "work from the left end to the right end",
        "go on term by term, as they are written",
    )),
    "right": Method("sums", (
        "begin with the last term and go to the left",
        "work from the right end to the left end",
        "keep a running total from right to left",
        "take the terms in the opposite order of how they are written",
    )),
    "signs": Method("sums", (
        "join the terms that are added, join those that are subtracted, then take the difference",
        "first all plus terms together, then all minus terms together",
        "put terms of the same sign together before anything else",
        "make one total of the plus terms and one of the minus terms",
    )),
    "size": Method("sums", (
        "take the largest term first and the smallest last",
        "go from the biggest number down to the smallest",
        "order the terms by size, large ones first",
        "begin with the biggest term, then the next biggest",
    )),
}  # fmt: skip
AT_ONCE = Method("sums", (
    "give the result at once",
    "write the result and no steps",
    "answer without any steps",
    "no steps, only the result",
))  # fmt: skip
_VERBS = {
    "+": ("add", "a sum"),
    "-": ("subtract", "a difference"),
    "*": ("multiply", "a product"),
    "/": ("divide", "a quotient"),
}
_TERM = re.compile(r"([+-]?)\s*(\d+)\s*")


def ways(task: Task, solution: Solution) -> list[tuple[Method, Solution]]:
    """The ways to solve `task` that are known, each with its worked solution: the usual one, that of `solution`, first;
    empty where nothing can be said of it."""
    if task.problem.family == "chain_sum" and solution.steps:
        return list(_ways_of_a_sum(solution))
    method = _constructs(solution.prose) if task.problem.form == "code" else _order_of(solution)
    return [(method, solution)] if method else []


def _ways_of_a_sum(solution: Solution) -> Iterator[tuple[Method, Solution]]:
    """Those whose steps differ; only the first for what is more than signed numbers."""
    yield SUM_METHODS["left"], solution
    terms = [int(sign + number) for sign, number in _TERM.findall(solution.expression)]
    if len(terms) < 2 or _TERM.sub("", solution.expression):
        return
    plus, minus = [term for term in terms if term >= 0], [-term for term in terms if term < 0]
    orders = {
        "right": _joined(terms[::-1]),
        "signs": f"({_joined(plus)}) - ({_joined(minus)})" if plus and minus else "",
        "size": _joined(sorted(terms, key=abs, reverse=True)),
    }
    seen = {solution.steps}
    for name, expression in orders.items():
        found = solve_expression(expression, solution.answer) if expression else None
        if found and found.steps not in seen:
            seen.add(found.steps)
            yield SUM_METHODS[name], found


def _joined(terms: list[int]) -> str:
    rest = "".join(f" {'-' if term < 0 else '+'} {abs(term)}" for term in terms[1:])
    return f"{terms[0]}{rest}"


def _order_of(solution: Solution) -> Method | None:
    """The order of the operations of a solution whose steps are known."""
    signs = [found[1] for step in solution.steps if (found := re.search(r"\s([-+*/])\s", step.left))]
    kinds = [sign for place, sign in enumerate(signs) if place == 0 or signs[place - 1] != sign]
    if not kinds:
        return None
    verbs, nouns = ([_VERBS[sign][which] for sign in kinds] for which in (0, 1))
    if len(kinds) == 1:
        (verb,), (noun,) = verbs, nouns
        wordings = (f"{verb} only", f"nothing is needed but to {verb}", f"find {noun}", f"it takes {noun} and no more")
    else:
        wordings = (
            f"first {', then '.join(verbs)}",
            f"{verbs[0]} before you {', before you '.join(verbs[1:])}",
            f"begin with {nouns[0]}, go on with {', then '.join(nouns[1:])}",
            f"take {nouns[0]}, and after it {', and after it '.join(nouns[1:])}",
        )
    return Method("arithmetic", wordings)


_CONSTRUCTS: dict[str, tuple[tuple[type[ast.AST], ...], str]] = {
    "loop": ((ast.For, ast.While), "go through the input in a loop"),
    "comprehension": (
        (ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp),
        "build the result in a comprehension",
    ),
    "condition": ((ast.If, ast.IfExp), "tell the cases apart by a condition"),
    "table": ((ast.Dict, ast.DictComp), "keep what is known in a dictionary"),
}


def _constructs(prose: str) -> Method | None:
    """What a program is built of."""
    try:
        tree = ast.parse(code_of(prose) or prose)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    nodes = list(ast.walk(tree))
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    found = [words for types, words in _CONSTRUCTS.values() if any(isinstance(node, types) for node in nodes)]
    if names & called:
        found.append("call the function itself on a smaller input")
    if called & {"sorted", "sort"}:
        found.append("sort first")
    if not found:
        found = ["use what the language has built in, in one expression"]
    listed = " and ".join(found[:2])
    return Method(
        "programs", (listed, f"in the program, {listed}", f"the way is to {listed}", f"write code to {listed}")
    )
