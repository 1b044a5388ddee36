"""Which function or class tests are about, read from their text. Pure functions."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterable

_BUILT_IN = frozenset(dir(builtins))


def function_under_test(tests: ast.Module, setup: ast.Module, solution: str) -> str | None:
    """The function or class that the tests are about: one that they import from `solution`, that the row's solution
    defines, else the outermost call of the first assertion that all assertions make, and that is neither built in nor
    of the setup or the tests; else the only name of that kind."""
    solved = _functions(solution)
    calls = [_calls(statement) for statement in tests.body if isinstance(statement, ast.Assert)]
    known = _BUILT_IN | defined(setup) | _bound(tests)
    shared = [name for name in (calls or [[]])[0] if name not in known and all(name in others for others in calls)]
    others = {node.id for node in ast.walk(tests) if isinstance(node, ast.Name)} - known - sys.stdlib_module_names
    found = _imported(tests) or [name for name in _calls(tests) if name in solved] or shared
    return next(iter(found or (others if len(others) == 1 else ())), None)


def _calls(node: ast.AST) -> list[str]:
    """Names that are called in `node`, outermost first."""
    return [each.func.id for each in ast.walk(node) if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)]


def _imported(tests: ast.Module) -> list[str]:
    """What the tests import of the program."""
    found = [node.names for node in ast.walk(tests) if isinstance(node, ast.ImportFrom) and node.module == "solution"]
    return [alias.name for names in found for alias in names]


def _bound(tests: ast.Module) -> set[str]:
    """Names that the tests themselves bind, wherever."""
    found = _imported_names(ast.walk(tests))
    for node in ast.walk(tests):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
    return found


def _functions(code: str) -> set[str]:
    try:
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        return {node.name for node in ast.parse(code).body if isinstance(node, kinds)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()


def _imported_names(nodes: Iterable[ast.AST]) -> set[str]:
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return {(alias.asname or alias.name).partition(".")[0] for node in imports for alias in node.names}


def defined(tree: ast.Module) -> set[str]:
    """Names that the code binds at its top: imports, functions, classes, variables."""
    found = _imported_names(tree.body)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return found
