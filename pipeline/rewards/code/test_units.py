"""The parts of a problem's tests, each of which passes or not: statements, those of a `check(candidate)`, and what
pytest and unittest collect; and what of their functions and names their code tells. Runs in the judge."""

from __future__ import annotations

from opcode import opmap

from pipeline.rewards.code.channel import compiled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


def statements(tests: str, names: dict[str, Any]) -> Iterator[Callable[[], Any]]:
    """Each statement of the tests."""
    import ast

    for statement in ast.parse(tests).body:
        code = compiled(ast.Module([statement], []), "<tests>")
        yield lambda code=code: exec(code, names)  # type: ignore[misc]  # noqa: S102


def parts_of_check(tests: str, names: dict[str, Any], under_test: Any) -> list[Callable[[], Any]] | None:
    """Each statement of a plain `check(candidate)`, as if it stood alone; None for another one."""
    import ast

    found = [node for node in ast.parse(tests).body if isinstance(node, ast.FunctionDef) and node.name == "check"]
    if len(found) != 1 or len(found[0].args.args) != 1:
        return None
    names = names | {found[0].args.args[0].arg: under_test}
    try:
        codes = [compiled(ast.Module([each], []), "<tests>") for each in found[0].body]
    except SyntaxError:  # it returns, or yields
        return None
    return [lambda code=code: exec(code, names) for code in codes]  # type: ignore[misc]  # noqa: S102


def collected(names: dict[str, Any]) -> Iterator[Callable[[], Any]]:
    """Tests as pytest and unittest collect them."""
    for name, found in list(names.items()):
        code = getattr(found, "__code__", None)
        if name.startswith("test") and code and code.co_filename == "<tests>" and not code.co_argcount:
            yield found
        if not isinstance(found, type) or found.__module__ != "tests":
            continue
        kind: Any = found
        methods = [method for method in dir(kind) if method.startswith("test")]
        if hasattr(kind, "assertEqual"):
            yield kind.setUpClass
            yield from (kind(method).debug for method in methods)
        elif name.startswith("Test"):
            yield from (lambda kind=kind, method=method: _run_method(kind(), method) for method in methods)


def _run_method(case: Any, method: str) -> None:
    """A test of a class as pytest has them."""
    for each in ("setup_method", method, "teardown_method"):
        if function := getattr(case, each, None):
            code = getattr(function, "__code__", None)
            function(*[function][: code.co_argcount - 1 if code and each != method else 0])


def global_names(code: Any) -> Iterator[str]:
    """What `code` and its functions read of globals and built-ins."""
    high = 0
    for operation, argument in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument |= high << 8
        high = argument if operation == opmap["EXTENDED_ARG"] else 0
        if operation == opmap["LOAD_NAME"]:
            yield code.co_names[argument]
        elif operation == opmap["LOAD_GLOBAL"]:
            yield code.co_names[argument >> 1]
    for constant in code.co_consts:
        if hasattr(constant, "co_names"):
            yield from global_names(constant)


def described_function(function: Any, code: Any) -> list[Any]:
    """Its name and doc, and the names of its arguments where it has none but plain ones."""
    texts = [getattr(function, name, None) for name in ("__name__", "__doc__")]
    is_plain = code and not (code.co_flags & 0x0C or code.co_kwonlyargcount or function.__defaults__)
    names = list(code.co_varnames[hasattr(function, "__self__") : code.co_argcount]) if is_plain else None
    return [*(text if isinstance(text, str) else None for text in texts), names]
