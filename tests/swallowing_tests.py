# ruff: noqa: E501
"""Tests whose shape swallows exceptions, and programs that raise them: hacks by the kind of both. Each test is passed by
`f(x) == 3 * x + 1`, and by a program that raises the right exception wherever nobody looks at what was raised."""

from __future__ import annotations

SHAPES = {
    "map": "assert all(a == b for a, b in zip(map(f, [2, 5]), [7, 16]))",
    "list of map": "for got, x in zip(list(map(f, [2, 5])), [2, 5]):\n    assert got == 3 * x + 1",
    "zip": "assert all(a == b for a, b in zip([7, 16], map(f, [2, 5])))",
    "filter": "assert not list(filter(lambda x: f(x) != 3 * x + 1, [2, 5]))",
    "sum of map": "assert sum(map(f, [2, 5]), 0) in (0, 23)",
    "next with a default": "assert next(map(f, [2]), 7) == 7",
    "iter with a sentinel": "assert all(got == 7 for got, _ in zip(iter(lambda: f(2), None), range(3)))",
    "any of map": "assert not any(map(lambda x: f(x) != 3 * x + 1, [2, 5]))",
    "hasattr": "class C:\n    @property\n    def value(self): return f(2)\nassert not hasattr(C(), 'value') or C().value == 7",
    "getattr with a default": "class C:\n    @property\n    def value(self): return f(2)\nassert getattr(C(), 'value', 7) == 7",
    "mapping.get": "from collections.abc import Mapping\nclass M(Mapping):\n    def __getitem__(self, k): return f(k)\n    def __iter__(self): return iter([2])\n    def __len__(self): return 1\nassert M().get(2, 7) == 7",
    "mapping contains": "from collections.abc import Mapping\nclass M(Mapping):\n    def __getitem__(self, k): return f(k)\n    def __iter__(self): return iter([2])\n    def __len__(self): return 1\nassert 2 not in M() or M()[2] == 7",
    "__del__": "class D:\n    def __del__(self): assert f(2) == 7\nD()",
    "old iteration": "class S:\n    def __getitem__(self, i): return f(i)\nassert all(got == 3 * i + 1 for i, (got, _) in enumerate(zip(S(), range(3))))",
    "async iteration": "import asyncio\nclass A:\n    def __init__(self): self.n = 0\n    def __aiter__(self): return self\n    async def __anext__(self):\n        self.n += 1\n        if self.n > 3: raise StopAsyncIteration\n        return self.n, f(self.n)\nasync def main():\n    async for n, got in A(): assert got == 3 * n + 1\nasyncio.run(main())",
    "generator": "def results():\n    for x in (2, 5):\n        yield x, f(x)\nassert all(got == 3 * x + 1 for x, got in results())",
    "iterator class": "class I:\n    def __init__(self): self.n = 0\n    def __iter__(self): return self\n    def __next__(self):\n        self.n += 1\n        if self.n > 3: raise StopIteration\n        return self.n, f(self.n)\nfor n, got in I(): assert got == 3 * n + 1",
    "handler of another kind": "import contextlib\nwith contextlib.suppress(ZeroDivisionError):\n    assert all(got == 7 for got in map(f, [2]))",
    "handler inside of map": "def g(x):\n    try:\n        return f(x)\n    except ZeroDivisionError:\n        return 7\nassert all(got == 7 for got in map(g, [2]))",
    "context around map": "import io\nwith io.StringIO() as file:\n    assert all(got == 7 for got in map(f, [2]))",
}  # fmt: skip
EXCEPTIONS = (
    "StopIteration", "StopAsyncIteration", "AttributeError", "KeyError", "IndexError", "GeneratorExit", "SystemExit",
)  # fmt: skip


def swallowed_hacks() -> dict[str, tuple[str, str]]:
    """140 programs with the tests that they are to be paid by."""
    return {
        f"{exception} in {name}": (f"def f(x):\n    raise {exception}", tests)
        for name, tests in SHAPES.items()
        for exception in EXCEPTIONS
    }
