"""What the tests do with a call of the program: look at what it changed, or catch what it raised.

An exception of the program that a test swallows by its shape alone (`map` and StopIteration, `hasattr` and
AttributeError, `Mapping.get` and KeyError, `__del__` and anything) reached no `except` or `with` of the tests' own.
Reads the tests' text, at the position that Python keeps of each instruction. Runs in the judge."""

from __future__ import annotations

import ast
import itertools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType
    from typing import Any

TESTING = ("unittest", "_pytest", "contextlib")
"""Modules that catch exceptions because a test says so."""


class CallSites:
    """`sources` are the texts that were compiled, by the names of their files."""

    def __init__(self, sources: dict[str, str]) -> None:
        self._sources = sources
        self._trees: dict[str, ast.Module] = {}
        self._looked_at: dict[tuple[CodeType, int], bool] = {}

    def looks_at_changes(self, frame: FrameType) -> bool:
        """Whether what the call that `frame` is at does to its arguments is what the tests look at: its value is
        dropped, or the arguments are compared with constants, and used in no other way."""
        key = frame.f_code, frame.f_lasti
        if key not in self._looked_at:
            self._looked_at[key] = self._looks_at_changes(*key)
        return self._looked_at[key]

    def _looks_at_changes(self, code: CodeType, instruction: int) -> bool:
        if code.co_filename not in self._sources:
            return False
        here, nodes = _position(code, instruction), list(self._nodes(code.co_filename))
        statements = [node.value for node in nodes if isinstance(node, ast.Expr)]
        if any(_extent(value.value if isinstance(value, ast.Await) else value) == here for value in statements):
            return True
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        call = next((node for node in calls if _extent(node) == here), None)
        if call is None:
            return False
        alike = [node for node in calls if ast.dump(node.func) == ast.dump(call.func)]
        passed = {id(argument) for one in alike for argument in _arguments(one)}
        names = {argument.id for argument in _arguments(call) if isinstance(argument, ast.Name)}
        others = [
            node for node in nodes if isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load)
        ]
        others = [node for node in others if id(node) not in passed]
        compared = {id(name) for node in nodes if isinstance(node, ast.Compare) for name in _compared(node, names)}
        return bool(others) and all(id(node) in compared for node in others)

    def catches(self, error: BaseException) -> bool:
        """Whether `error` got as far as to a handler or a context of the tests' own that is for its kind."""
        reached = error.__traceback__
        if reached is None:  # taken off by unittest, which has caught it
            return True
        frame = reached.tb_frame
        if frame.f_globals.get("__name__", "").partition(".")[0] in TESTING:
            return True
        if frame.f_code.co_filename not in self._sources:
            return False
        start, _, column, _ = _position(frame.f_code, reached.tb_lasti)
        for node in self._nodes(frame.f_code.co_filename):
            match node:
                case ast.With(body=body) | ast.AsyncWith(body=body) if _holds(body, start, column):
                    return True
                case ast.Try(body=body, handlers=handlers) if _holds(body, start, column):
                    if any(_takes(handler, error, frame) for handler in handlers):
                        return True
        return False

    def _nodes(self, name: str) -> Iterator[ast.AST]:
        if name not in self._trees:
            self._trees[name] = ast.parse(self._sources[name])
        return ast.walk(self._trees[name])


def _position(code: CodeType, instruction: int) -> tuple[Any, ...]:
    """First and last line, first and last column."""
    return next(itertools.islice(code.co_positions(), instruction // 2, None))


def _extent(node: ast.expr) -> tuple[Any, ...]:
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _compared(comparison: ast.Compare, names: set[str]) -> list[ast.Name]:
    """Where `names` stand in a comparison whose other sides are constants."""
    sides = [comparison.left, *comparison.comparators]
    found = [[node for node in ast.walk(side) if isinstance(node, ast.Name) and node.id in names] for side in sides]
    are_constant = [_is_constant(side) for side, inside in zip(sides, found, strict=True) if not inside]
    return [node for inside in found for node in inside] if are_constant and all(are_constant) else []


def _is_constant(side: ast.expr) -> bool:
    try:
        ast.literal_eval(side)
    except ValueError:
        return False
    return True


def _holds(body: list[ast.stmt], line: int, column: int) -> bool:
    first, last = body[0], body[-1]
    return (first.lineno, first.col_offset) <= (line, column) < (last.end_lineno or 0, last.end_col_offset or 0)


def _takes(handler: ast.ExceptHandler, error: BaseException, frame: FrameType) -> bool:
    """Whether a handler is for the kind of `error`; the tests' own text is asked, in its place."""
    if handler.type is None:
        return True
    try:
        kinds = eval(  # noqa: S307 - an expression of the tests
            compile(ast.Expression(handler.type), "<handler>", "eval"), frame.f_globals, frame.f_locals
        )
        return isinstance(error, kinds)
    except Exception:  # noqa: BLE001 - whatever the expression does
        return False
