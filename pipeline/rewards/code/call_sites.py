"""What the tests do with a call of the program: look at what it changed, or catch what it raised.

An exception of the program that a test swallows by its shape alone (`map` and StopIteration, `hasattr` and
AttributeError, `Mapping.get` and KeyError, `__del__` and anything) reached no `except` or `with` of the tests' own.
Reads the tests' text, at the position that Python keeps of each instruction. Runs in the judge."""

from __future__ import annotations

import ast
import builtins
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
        self._looked_at: dict[tuple[CodeType, int, bool], bool] = {}

    def looks_at_changes(self, frame: FrameType, result: Any) -> bool:
        """Whether what the call that `frame` is at does to its arguments is what the tests look at: its value is
        dropped, or None and not compared with what the arguments give, or the arguments are compared with constants,
        and used in no other way."""
        key = frame.f_code, frame.f_lasti, result is None
        if key not in self._looked_at:
            self._looked_at[key] = self._looks_at_changes(*key)
        return self._looked_at[key]

    def _looks_at_changes(self, code: CodeType, instruction: int, is_none: bool) -> bool:
        if code.co_filename not in self._sources:
            return is_none
        here, nodes = _position(code, instruction), list(self._nodes(code.co_filename))
        statements = [node.value for node in nodes if isinstance(node, ast.Expr)]
        if any(_extent(value.value if isinstance(value, ast.Await) else value) == here for value in statements):
            return True
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        call = next((node for node in calls if _extent(node) == here), None)
        if call is None:
            return is_none
        alike = [node for node in calls if ast.dump(node.func) == ast.dump(call.func)]
        passed = {id(argument) for one in alike for argument in _arguments(one)}
        names = {argument.id for argument in _arguments(call) if isinstance(argument, ast.Name)}
        if is_none:
            return not any(_meets(node, call, _names_of(call, nodes), names) for node in nodes)
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

    def line_of(self, error: BaseException) -> str:
        """The line of the tests that `error` came through last."""
        line, step = "", error.__traceback__
        while step is not None:
            source = self._sources.get(step.tb_frame.f_code.co_filename)
            line = source.splitlines()[step.tb_lineno - 1].strip() if source else line
            step = step.tb_next
        return line

    def raises(self, error: BaseException) -> bool:
        """Whether `error` is what a statement of a context's body does by itself: a `raise`, or what names nothing but
        built-ins, on no condition."""
        reached = error.__traceback__
        if reached is None or reached.tb_next is not None or reached.tb_frame.f_code.co_filename not in self._sources:
            return False
        line, _, column, _ = _position(reached.tb_frame.f_code, reached.tb_lasti)
        for node in self._nodes(reached.tb_frame.f_code.co_filename):
            if isinstance(node, ast.With | ast.AsyncWith):
                found = [each for each in node.body if _holds([each], line, column)]
                if found and (isinstance(found[0], ast.Raise) or _is_built_in(found[0])):
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


def _names_of(call: ast.Call, nodes: list[ast.AST]) -> set[str]:
    """The variables that hold the value of `call` alone."""
    assigned = (node for node in nodes if isinstance(node, ast.Assign) and node.value is call)
    return {target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)}


def _meets(node: ast.AST, call: ast.Call, values: set[str], names: set[str]) -> bool:
    """Whether `node` compares the value of `call`, or what `values` hold, with what it makes of `names`; a function may
    be what compares."""
    if isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
    elif isinstance(node, ast.Call) and node is not call:
        sides = _arguments(node)
    else:
        return False
    others = [side for side in sides if side is not call and not (isinstance(side, ast.Name) and side.id in values)]
    found = (each for side in others for each in ast.walk(side) if isinstance(each, ast.Name))
    return len(others) < len(sides) and any(each.id in names for each in found)


def _is_built_in(statement: ast.stmt) -> bool:
    """Whether a statement is an expression that names nothing but built-ins."""
    names = (node.id for node in ast.walk(statement) if isinstance(node, ast.Name))
    return isinstance(statement, ast.Expr) and all(name in vars(builtins) for name in names)


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
