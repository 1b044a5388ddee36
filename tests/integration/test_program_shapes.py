# ruff: noqa: E501
"""Shapes of tests that look for more than a returned value: a right program is paid, a wrong one is not."""

from __future__ import annotations

import random

import pytest

from pipeline.rewards.code import sandbox
from pipeline.rewards.code.pool import SandboxPool
from pipeline.rewards.code.test_runner import ProgramResult, run_tests
from tests.swallowing_tests import SHAPES, swallowed_hacks

PROBLEM = sandbox.isolation_problem()
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=f"programs not run: {PROBLEM}")

POINT = "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n    y: int\n"
STACK = "class Stack:\n    def __init__(self, *items): self.items = list(items)\n    def push(self, x): self.items.append(x); return self\n    def pop(self): return self.items.pop()\n    def __len__(self): return len(self.items)\n    def __iter__(self): return iter(self.items)\n    def __contains__(self, x): return x in self.items\n    def __getitem__(self, i): return self.items[i]\n    @property\n    def top(self): return self.items[-1]\n    @classmethod\n    def of(cls, n): return cls(*range(n))\n"
VECTOR = "class Vector:\n    def __init__(self, x, y): self.x, self.y = x, y\n    def __add__(self, o): return Vector(self.x + o.x, self.y + o.y)\n    def __mul__(self, k): return Vector(self.x * k, self.y * k)\n    __rmul__ = __mul__\n    def __eq__(self, o): return (self.x, self.y) == (o.x, o.y)\n    def __repr__(self): return f'Vector({self.x}, {self.y})'\n    def __lt__(self, o): return self.x < o.x\n"
ACCOUNT = "class Poor(Exception): pass\nclass Account:\n    def __init__(self, n): self.n = n\n    def take(self, k):\n        if k > self.n: raise Poor(f'only {self.n}')\n        self.n -= k\n"
NODE = "class Node:\n    def __init__(self, val, next=None): self.val, self.next = val, next\n"
# Name: setup, a right program, what is replaced in it to make it wrong, and the tests.
RIGHT = {
    "list sorted in place": ("", "def f(x): x.sort()", ("sort", "reverse"), "x = [3, 1, 2]\nf(x)\nassert x == [1, 2, 3]"),
    "list in place, returned too": ("", "def f(x):\n    x.sort()\n    return x", ("sort", "reverse"), "x = [3, 1, 2]\nf(x)\nassert x == [1, 2, 3]"),
    "rows in place": ("", "def f(m):\n    for row in m: row.reverse()", ("reverse", "clear"), "m = [[3, 2], [1, 0]]\nassert f(m) is None\nassert m == [[2, 3], [0, 1]]"),
    "dict in place": ("", "def f(d, k): d[k] = d.get(k, 0) + 1", ("+ 1", "+ 2"), "d = {'a': 1}\nf(d, 'a')\nf(d, 'b')\nassert d == {'a': 2, 'b': 1}"),
    "set in place": ("", "def f(s): s.discard(1)", ("discard(1)", "discard(2)"), "s = {1, 2}\nf(s)\nassert s == {2}"),
    "deque in place": ("", "def f(q): q.rotate(1)", ("(1)", "(2)"), "from collections import deque\nq = deque([1, 2, 3])\nf(q)\nassert list(q) == [3, 1, 2]"),
    "bytearray in place": ("", "def f(b): b.reverse()", ("reverse", "clear"), "b = bytearray(b'abc')\nf(b)\nassert b == b'cba'"),
    "in place, with a result": ("", "def f(x):\n    x[:] = sorted(set(x))\n    return len(x)", ("sorted(set(x))", "sorted(x)[:2]"), "x = [2, 1, 1, 3]\nk = f(x)\nassert k == 3\nassert x[:k] == [1, 2, 3]\nx = [4]\nassert f(x) == 1 and x == [4]"),
    "argument by name in place": ("", "def f(n, items): items.append(n)", ("append(n)", "append(0)"), "x = [1]\nf(2, items=x)\nassert x == [1, 2]"),
    "attributes named as modules are": ("", "def f(x): return x.copy()", (".copy()", "[1:]"), "import io\nassert f([1]) == [1] and io.StringIO('a').readline() == 'a' and not hasattr(1, 'turtle')"),
    "object of the tests in place": ("", "def f(p): p.x += 1", ("+= 1", "+= 2"), "class P:\n    def __init__(self, x): self.x = x\np = P(1)\nf(p)\nassert p.x == 2"),
    "in place through a name": ("", "def f(x): x.sort()", ("sort", "reverse"), "def check(candidate):\n    x = [3, 1, 2]\n    candidate(x)\n    assert x == [1, 2, 3]"),
    "dataclass of the setup": (POINT, POINT + "def f(x): return Point(x, x + 1)", ("x + 1", "x"), "assert f(1) == Point(1, 2)\nassert f(1).y == 2"),
    "dataclass given": (POINT, POINT + "def f(p): return p.x + p.y", ("+ p.y", "- p.y"), "assert f(Point(1, 2)) == 3"),
    "dataclass given to a program without it": (POINT, "def f(p): return p.x + p.y", ("+ p.y", "- p.y"), "assert f(Point(1, 2)) == 3"),
    "dataclass of the program": ("", POINT + "def f(x): return Point(x, x + 1)", ("x + 1", "x"), "assert f(1).x == 1 and f(1).y == 2"),
    "dataclass compared": ("", POINT + "def f(x): return Point(x, x + 1)", ("x + 1", "x"), "assert f(1) == Point(1, 2)\nassert f(1) != Point(2, 2)"),
    "list of dataclasses": (POINT, POINT + "def f(n): return [Point(i, i) for i in range(n)]", ("(i, i)", "(i, 0)"), "assert f(3) == [Point(0, 0), Point(1, 1), Point(2, 2)]"),
    "named tuple": ("", "from collections import namedtuple\nP = namedtuple('P', 'low high')\ndef f(x): return P(min(x), max(x))", ("max", "min"), "assert f([1, 3]).high == 3 and f([1, 3]) == (1, 3)"),
    "enumeration": ("", "from enum import Enum\nclass C(Enum):\n    RED = 1\n    BLUE = 2\ndef f(x): return C.RED if x else C.BLUE", ("if x", "if not x"), "assert f(1).name == 'RED' and f(0).value == 2"),
    "enumeration of the setup": ("from enum import Enum\nclass C(Enum):\n    RED = 1\n    BLUE = 2", "from enum import Enum\nclass C(Enum):\n    RED = 1\n    BLUE = 2\ndef f(x): return C.BLUE if x is C.RED else C.RED", ("x is C", "x is not C"), "assert f(C.RED) is C.BLUE and f(C.BLUE) is C.RED"),
    "linked list": (NODE, NODE + "def f(node):\n    last = None\n    while node: node.next, last, node = last, node, node.next\n    return last", ("return last", "return None"), "got = f(Node(1, Node(2, Node(3))))\nassert [got.val, got.next.val, got.next.next.val] == [3, 2, 1]\nassert got.next.next.next is None"),
    "ring": (NODE, "def f(node):\n    seen = []\n    while node not in seen: seen.append(node); node = node.next\n    return len(seen)", ("len(seen)", "len(seen) + 1"), "a = Node(1)\na.next = Node(2, a)\nassert f(a) == 2"),
    "class under test": ("", STACK, ("append(x)", "insert(0, x)"), "s = Stack()\ns.push(1)\ns.push(2)\nassert s.pop() == 2 and len(s) == 1 and 1 in s and s.top == 1 and list(s) == [1] and s[0] == 1"),
    "class method": ("", STACK, ("range(n)", "range(n + 1)"), "assert len(Stack.of(3)) == 3 and list(Stack.of(2)) == [0, 1]"),
    "chained methods": ("", STACK, ("append(x)", "insert(0, x)"), "assert Stack().push(1).push(2).pop() == 2"),
    "isinstance": ("", STACK, ("return self\n", "return 1\n"), "assert isinstance(Stack().push(1), Stack) and not isinstance(1, Stack)"),
    "operators": ("", VECTOR, ("self.x + o.x", "self.x - o.x"), "v = Vector(1, 2) + Vector(3, 4)\nassert (v.x, v.y) == (4, 6)\nassert v == Vector(4, 6) and v != Vector(1, 2)"),
    "operators with numbers": ("", VECTOR, ("self.y * k", "self.y"), "assert (Vector(1, 2) * 3).y == 6 and (3 * Vector(1, 2)).y == 6"),
    "its own text": ("", VECTOR, ("'Vector(", "'V("), "assert repr(Vector(1, 2)) == 'Vector(1, 2)' and str(Vector(0, 1)) == 'Vector(0, 1)'"),
    "sorted objects": ("", VECTOR, ("self.x < o.x", "self.x > o.x"), "assert [v.x for v in sorted([Vector(2, 0), Vector(1, 0)])] == [1, 2]"),
    "attribute set": ("", STACK, ("[-1]", "[0]"), "s = Stack()\ns.items = [1, 2]\nassert s.top == 2"),
    "exception of the program": ("", ACCOUNT, ("k > self.n", "k > self.n + 9"), "a = Account(3)\na.take(2)\ntry:\n    a.take(2)\n    assert False\nexcept Poor as error:\n    assert str(error) == 'only 1'"),
    "context manager": ("", "class T:\n    def __enter__(self): self.n = 1; return self\n    def __exit__(self, *a): self.n = 2", ("self.n = 2", "self.n = 3"), "with T() as t:\n    assert t.n == 1\nassert t.n == 2"),
    "iterator class": ("", "class Down:\n    def __init__(self, n): self.n = n\n    def __iter__(self): return self\n    def __next__(self):\n        if not self.n: raise StopIteration\n        self.n -= 1\n        return self.n", ("-= 1", "-= 2"), "d = Down(4)\nassert next(d) == 3\nassert d.n == 3 and list(d) == [2, 1, 0]"),
    "function passed": ("", "def f(g, x): return g(g(x))", ("g(g(x))", "g(x)"), "assert f(lambda x: 2 * x, 3) == 12"),
    "key passed": ("", "def f(x, key): return sorted(x, key=key)", ("key=key", "key=abs"), "assert f([1, -2], key=lambda v: v) == [-2, 1]"),
    "built-in passed": ("", "def f(g, x): return [g(v) for v in x]", ("g(v)", "v"), "assert f(int, ['1', '2']) == [1, 2] and f(len, ['ab']) == [2] and f(str.upper, ['a']) == ['A']"),
    "type passed": ("", "def f(x, kind): return [v for v in x if isinstance(v, kind)]", ("if isinstance", "if not isinstance"), "assert f([1, 'a', 2], int) == [1, 2]"),
    "function of an object passed": ("", "def f(add):\n    for i in range(3): add(i)", ("range(3)", "range(2)"), "seen = []\nf(seen.append)\nassert seen == [0, 1, 2]"),
    "function that raises": ("", "def f(g):\n    for _ in range(3):\n        try: return g()\n        except ValueError: pass\n    return 'gave up'", ("range(3)", "range(1)"), "calls = []\ndef flaky():\n    calls.append(1)\n    if len(calls) < 3: raise ValueError\n    return 7\nassert f(flaky) == 7 and len(calls) == 3"),
    "function returned": ("", "def f(n): return lambda x: x + n", ("x + n", "x - n"), "add = f(2)\nassert add(3) == 5 and callable(add)"),
    "decorator": ("", "def f(g):\n    calls = []\n    def inner(*a):\n        calls.append(a)\n        return g(*a), len(calls)\n    return inner", ("len(calls)", "0"), "@f\ndef twice(x): return 2 * x\nassert twice(2) == (4, 1) and twice(3) == (6, 2)"),
    "function passed back": ("", "def f(g): return g", ("return g", "return len"), "def g(): pass\nassert f(g) is g"),
    "coroutine": ("", "async def f(x): return x + 1", ("+ 1", "+ 2"), "import asyncio\nassert asyncio.run(f(1)) == 2"),
    "coroutine awaited": ("", "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x + 1", ("+ 1", "+ 2"), "import asyncio\nasync def main():\n    assert await f(1) == 2\n    assert await asyncio.gather(f(2), f(3)) == [3, 4]\nasyncio.run(main())"),
    "coroutine that raises": ("", "async def f(x):\n    if x < 0: raise ValueError('negative')\n    return x", ("x < 0", "x < -9"), "import asyncio\nasync def main():\n    try:\n        await f(-1)\n    except ValueError as error:\n        assert str(error) == 'negative'\n    else:\n        assert False\nasyncio.run(main())"),
    "coroutine function passed": ("", "import asyncio\nasync def f(fetch, n): return sum(await asyncio.gather(*(fetch(i) for i in range(n))))", ("range(n)", "range(n + 1)"), "import asyncio\nasync def fetch(i):\n    await asyncio.sleep(0)\n    return 10 * i\nassert asyncio.run(f(fetch, 3)) == 30"),
    "asynchronous generator": ("", "async def f(n):\n    for i in range(n): yield i", ("yield i", "yield -i"), "import asyncio\nasync def main(): return [i async for i in f(3)]\nassert asyncio.run(main()) == [0, 1, 2]"),
    "asynchronous method": ("", "class C:\n    async def get(self, x): return x + 1", ("+ 1", "+ 2"), "import asyncio\nassert asyncio.run(C().get(1)) == 2"),
    "iterator given": ("", "def f(x): return sum(x)", ("sum", "list"), "assert f(iter([1, 2])) == 3 and f(i for i in (1, 2)) == 3"),
    "exception expected": ("", "def f(x):\n    if x < 0: raise ValueError\n    return x", ("x < 0", "x < -9"), "try:\n    f(-1)\n    assert False\nexcept ValueError:\n    pass\nassert f(1) == 1"),
    "exception expected by unittest": ("", "def f(x):\n    if x < 0: raise KeyError(x)\n    return x", ("x < 0", "x < -9"), "import unittest\nt = unittest.TestCase()\nt.assertRaises(KeyError, f, -1)\nwith t.assertRaises(KeyError): f(-1)\nassert f(1) == 1"),
    "exception expected by a helper": ("", "def f(x):\n    if x < 0: raise StopIteration\n    return x", ("x < 0", "x < -9"), "def raises(kind, g, *a):\n    try: g(*a)\n    except kind: return True\n    return False\nassert raises(StopIteration, f, -1) and not raises(StopIteration, f, 1)"),
    "exception expected by a context": ("", "def f(x):\n    if x < 0: raise AttributeError\n    return x", ("x < 0", "x < -9"), "from contextlib import contextmanager\n@contextmanager\ndef raises(kind):\n    try: yield\n    except kind: return\n    raise AssertionError\nwith raises(AttributeError): f(-1)"),
    "tests as pytest has them": ("", "def f(x): return x + 1", ("+ 1", "+ 2"), "def test_one():\n    assert f(1) == 2"),
    "tests as unittest has them": ("", "def f(x): return x + 1", ("+ 1", "+ 2"), "import unittest\nclass TestF(unittest.TestCase):\n    def setUp(self): self.x = 1\n    def test_one(self): self.assertEqual(f(self.x), 2)"),
    "module that the tests forgot": ("", "import math\ndef f(x): return math.sqrt(x)", ("sqrt(x)", "sqrt(x) + 1"), "assert math.isclose(f(4), 2)"),
    "infinite generator that grows": ("", "def f():\n    a, b = 0, 1\n    while True:\n        yield a\n        a, b = b, a + b", ("a, b = 0", "a, b = 1"), "from itertools import islice\nassert list(islice(f(), 7)) == [0, 1, 1, 2, 3, 5, 8]"),
    "generator whose next item never comes": ("", "def f():\n    yield 1\n    yield 2\n    while True: pass", ("yield 2", "yield 3"), "g = f()\nassert next(g) == 1 and next(g) == 2"),
    "infinite iteration of an object": ("", "class f:\n    def __iter__(self):\n        n = 1\n        while True:\n            yield n\n            n *= 3", ("*= 3", "*= 2"), "assert [x for x, _ in zip(f(), range(3))] == [1, 3, 9]"),
    "generator that is sent to": ("", "def f():\n    t = 0\n    while True: t += yield t", ("t +=", "t -="), "g = f()\nassert next(g) == 0 and g.send(3) == 3 and g.send(4) == 7\ng.close()\nassert next(g, None) is None"),
    "generator that raises later": ("", "def f(xs):\n    for x in xs: yield 6 // x", ("6 //", "6 /"), "g = f([4, 0])\nassert repr(next(g)) == '1'\ntry:\n    next(g)\n    assert False\nexcept ZeroDivisionError: pass"),
    "difference of times": ("", "def f(a, b): return a - b", ("a - b", "b - a"), "from datetime import date, timedelta\nassert f(date(2024, 3, 1), date(2024, 2, 28)) == timedelta(days=2)"),
    "difference of times given": ("", "def f(d): return d.total_seconds()", ("total_seconds()", "days"), "from datetime import timedelta\nassert f(timedelta(hours=1)) == 3600"),
    "operators of one side": ("", "class T:\n    def __init__(self, x): self.x = x\n    def __neg__(self): return T(-self.x)\n    def __invert__(self): return T(~self.x)\n    def __lshift__(self, n): return T(self.x << n)\n    def __iadd__(self, o): self.x += o.x; return self", ("(-self", "(1 + self"), "t = T(1)\nt += T(2)\nassert (t.x, (-t).x, (~t).x, (t << 1).x) == (3, -3, -4, 6)"),
    "asynchronous context": ("", "class T:\n    async def __aenter__(self): self.n = 1; return self\n    async def __aexit__(self, *a): self.n = 2", ("self.n = 2", "self.n = 3"), "import asyncio\nasync def main():\n    async with T() as t: assert t.n == 1\n    assert t.n == 2\nasyncio.run(main())"),
    "context that suppresses": ("", "class f:\n    def __init__(self, *kinds): self.kinds = kinds\n    def __enter__(self): return self\n    def __exit__(self, kind, error, trace): return kind is not None and issubclass(kind, self.kinds)", ("is not None and", "is not None or"), "with f(ValueError):\n    raise ValueError('x')\nwith f(ZeroDivisionError):\n    1 / 0\ntry:\n    with f(ValueError): raise KeyError\n    assert False\nexcept KeyError: pass"),
    "context that rolls back": ("", "class C:\n    def __init__(self): self.x = 1\n    def __enter__(self): self.old = self.x\n    def __exit__(self, kind, error, trace):\n        if kind: self.x = self.old", ("self.x = self.old", "pass"), "c = C()\ntry:\n    with c:\n        c.x = 2\n        raise ValueError('x')\nexcept ValueError: pass\nassert c.x == 1\nwith c: c.x = 3\nassert c.x == 3"),
    "tests as unittest has them, set up once": ("", "def f(x): return x + 1", ("+ 1", "+ 2"), "import unittest\nclass TestF(unittest.TestCase):\n    @classmethod\n    def setUpClass(cls): cls.x = 1\n    def test_one(self): self.assertEqual(f(self.x), 2)"),
    "nothing returned, held, and arguments looked at": ("", "def f(x): x.sort()", ("sort", "reverse"), "x = [3, 1, 2]\ny = x[:]\ngot = f(x)\nassert got is None and x == sorted(y)"),
    "nothing returned, or what": ("", "def f(x): x.sort()", ("sort", "reverse"), "def run(x):\n    got = f(x)\n    return x if got is None else got\nassert run([3, 1, 2]) == [1, 2, 3]"),
}  # fmt: skip
# Name: a program that wants to be paid for nothing, and the tests.
HACKS = {
    "arguments emptied": ("def f(x): x.clear(); return []", "x = [2, 1]\nassert f(x) == sorted(x)"),
    "arguments emptied, a name between": ("def f(x): x.clear(); return []", "x = [2, 1]\ngot = f(x)\nassert got == sorted(x)"),
    "arguments emptied, their length asked for": ("def f(x): x.clear(); return 0", "x = [2, 1]\ngot = f(x)\nassert got == len(x)\nassert x != [5]"),
    "arguments emptied and returned": ("def f(x): x.clear(); return x", "x = [2, 1]\nassert len(f(x)) == len(x) and f(x) == sorted(x)"),
    "its own zero": ("class Z:\n    def __sub__(s, o): return 0\n    __rsub__ = __sub__\ndef f(x): return Z()", "assert abs(f(4) - 2) < 1e-9"),
    "its own zero of its own": ("class Z:\n    def __sub__(s, o): return s\n    def __abs__(s): return 0\ndef f(x): return Z()", "assert abs(f(4) - 2) < 1e-9"),
    "always less": ("class Z:\n    def __lt__(s, o): return True\n    __gt__ = __le__ = __ge__ = __lt__\ndef f(x): return Z()", "assert 1 < f(4) < 3"),
    "always in": ("class Z:\n    def __contains__(s, o): return True\ndef f(x): return Z()", "assert f(4) == [1, 2] or 3 in f(4) and list(f(4)) == [3]"),
    "always equal to its like": ("class P:\n    def __init__(s, *a): pass\n    def __eq__(s, o): return True\ndef f(x): return P()", "assert f(1) == P(1, 2)"),
    "class always equal": ("class Stack:\n    def push(s, x): pass\n    def pop(s): return s\n    def __eq__(s, o): return True", "s = Stack()\ns.push(1)\nassert s.pop() == 1"),
    "attributes always equal": ("class A:\n    def __getattr__(s, n): return A()\n    def __eq__(s, o): return True\n    def __call__(s, *a): return A()\ndef f(x): return A()", "assert f(1).value == 3"),
    "number of its own kind": ("class A:\n    def __int__(s): return 7\n    __index__ = __int__\n    def __float__(s): return 7.0\ndef f(x): return A()", "assert int(f(2)) == 7"),
    "module of the tests patched": ("import math\nmath.isclose = lambda *a: True\ndef f(x): return 0", "assert math.isclose(f(4), 2)"),
    "assertion of a passed function swallowed": ("def f(g):\n    try: g(-1)\n    except BaseException: pass", "def g(x): assert x > 0\nf(g)"),
    "a function of the tests' called out of turn": ("import sys\ndef f(g): return 7", "seen = []\nf(seen.append)\nassert seen == [1]"),
    "frames forged": ("import sys\nfrom pipeline.rewards.code import channel\nchannel.Channel.send = lambda s, m: s._sink.write(b'\\x00\\x00\\x00\\x0a[\"x\", 1, 2]') and s._sink.flush()\ndef f(x): pass", "assert f(1) == 2"),
    "values forged": ("from pipeline.rewards.code import serialization as s\ns.Values.encode = lambda self, v: ['defaultdict', 'int']\ndef f(x): pass", "assert f(1)['a'] == 0"),
    "handles forged": ("from pipeline.rewards.code import serialization as s\ns.Values.encode = lambda self, v: ['remote', 0, 'int', ['__eq__']]\ndef f(x): pass", "assert f(1) == 2"),
    "state forged": (POINT + "from pipeline.rewards.code import candidate\ncandidate.OPERATIONS['state'] = lambda o: {'__eq__': 1, '__class__': int, 'x': 1, 'y': 2, 'norm': 5}\ndef f(x): return Point(0, 0)", "class Point:\n    def norm(self): return self.x\nassert f(1).norm() == 5"),
    "helper of the tests' forged": ("class Any:\n    pass\ndef f(x): return Any()", "class Any:\n    def __eq__(self, o): return True\nassert Any() == 3 and f(1) == 2"),
    "exit at import": ("import os\nos._exit(0)\ndef f(x): pass", "assert f(1) == 2"),
    "error at import, expected by the tests": ("raise ValueError", "try:\n    f(-1)\n    assert False\nexcept ValueError:\n    pass"),
    "arguments emptied, for nothing": ("def f(x): x.clear()", "x = [2, 1]\nassert f(x) == max(x, default=None)"),
    "arguments emptied, for nothing, a name between": ("def f(x): x.clear()", "x = {'a': 1}\ngot = f(x)\nassert got == x.get('a')"),
    "arguments emptied, for nothing, compared by unittest": ("def f(x): x.clear()", "import unittest\nclass A(unittest.TestCase):\n    def test_a(self):\n        x = {'a': 1}\n        self.assertEqual(f(x), x.get('a'))"),
    "context that swallows a failed test": ("class T:\n    def __enter__(s): return 1\n    def __exit__(s, *a): return True\ndef f(): return T()", "with f() as t:\n    assert t == 42"),
    "context that raises for a failed test": ("class T:\n    def __enter__(s): return 1\n    def __exit__(s, *a): raise ValueError\ndef f(): return T()", "try:\n    with f() as t:\n        assert t == 42\nexcept ValueError: pass"),
    "context that swallows its own error": ("class T:\n    def __enter__(s): return s\n    def __exit__(s, *a): return True\n    def g(s): raise ValueError\ndef f(): return T()", "with f() as t:\n    assert t.g() == 42"),
    "context that swallows what its value lacks": ("class T:\n    def __enter__(s): return []\n    def __exit__(s, *a): return True\ndef f(): return T()", "with f() as t:\n    assert t[3] == 42"),
    "context that swallows a raise in place of an assertion": ("class T:\n    def __enter__(s): return 1\n    def __exit__(s, *a): return True\ndef f(): return T()", "with f() as t:\n    if t != 42: raise ValueError(t)"),
    "context on a stack": ("class T:\n    def __enter__(s): return 1\n    def __exit__(s, *a): return True\ndef f(): return T()", "from contextlib import ExitStack\nwith ExitStack() as stack:\n    assert stack.enter_context(f()) == 42"),
    "asynchronous context that swallows": ("class T:\n    async def __aenter__(s): return 1\n    async def __aexit__(s, *a): return True\ndef f(): return T()", "import asyncio\nasync def main():\n    async with f() as t:\n        assert t == 42\nasyncio.run(main())"),
    "missing nothing, for a test that swallows": ("from pipeline.rewards.code import channel\nchannel.Channel.send = lambda s, m: s._sink.write(b'\\x00\\x00\\x00\\x11[\"missing\",[],\"\"]') and s._sink.flush()\ndef f(x): pass", "class S:\n    def __getitem__(self, i): return f(i)\nassert list(S()) == []"),
    "coroutine instead of a value": ("async def f(x): return 2", "assert f(1) == 2"),
}  # fmt: skip
SEED = 0


def wrong(program: str, change: tuple[str, str]) -> str:
    assert change[0] in program
    return program.replace(*change)


def name_of(program: str, tests: str) -> str:
    """The function or class under test: `f`, or the class that the tests call."""
    return (
        "f"
        if "def f(" in program or ("f(" in tests and "class " not in program)
        else next(
            word
            for word in ("Stack", "Vector", "Account", "T", "Down", "C", "f")
            if f"class {word}:" in program or word == "f"
        )
    )


@pytest.mark.parametrize("name", RIGHT)
async def test_a_right_program_is_paid_and_a_wrong_one_is_not(name: str) -> None:
    setup, program, change, tests = RIGHT[name]
    entry_point = name_of(program, tests)
    async with SandboxPool(20.0, num_ahead=1) as pool:
        right = await run_tests(program, tests, entry_point, setup=setup, timeout_s=20.0, pool=pool)
        assert right == ProgramResult("passed", "", 1.0)
        other = await run_tests(wrong(program, change), tests, entry_point, setup=setup, timeout_s=20.0, pool=pool)
        assert other.kind == "failed", other


async def test_hacks_of_these_shapes_are_not_paid() -> None:
    async with SandboxPool(20.0, num_ahead=1) as pool:
        found = {
            name: await run_tests(program, tests, name_of(program, tests), timeout_s=20.0, pool=pool)
            for name, (program, tests) in HACKS.items()
        }
    assert {name: outcome for name, outcome in found.items() if outcome.kind == "passed"} == {}


async def unpaid(hacks: dict[str, tuple[str, str]]) -> None:
    async with SandboxPool(20.0, num_ahead=1) as pool:
        found = {name: await run_tests(*hacks[name], "f", timeout_s=20.0, pool=pool) for name in hacks}
    assert {name: outcome for name, outcome in found.items() if outcome.kind != "failed"} == {}


async def test_exceptions_that_a_test_swallows_are_not_paid() -> None:
    hacks = swallowed_hacks()
    await unpaid({name: hacks[name] for name in random.Random(SEED).sample(sorted(hacks), 20)})


@pytest.mark.slow
async def test_140_exceptions_that_a_test_swallows_are_not_paid() -> None:
    assert len(swallowed_hacks()) == 140
    await unpaid(swallowed_hacks())


async def test_a_right_program_passes_every_test_that_swallows() -> None:
    async with SandboxPool(20.0, num_ahead=1) as pool:
        found = {
            name: await run_tests("def f(x): return 3 * x + 1", tests, "f", timeout_s=20.0, pool=pool)
            for name, tests in SHAPES.items()
        }
    assert {name: outcome for name, outcome in found.items() if outcome.kind != "passed"} == {}


PARTS = {
    "statements": ("assert f(1) == 2\nassert f(2) == 3\nassert f(3) == 9\nassert f(4) == 9", 0.5),
    "check": ("def check(g):\n    assert g(1) == 2\n    x = g(2)\n    assert x == 9\n    assert g(3) == 4", 0.75),
    "pytest": ("def test_a():\n    assert f(1) == 2\ndef test_b():\n    assert f(1) == 3", 0.5),
    "check as one": ("def check(g):\n    if g(1) != 2: return\n    assert g(2) == 9", 0.0),
}


@pytest.mark.parametrize("name", PARTS)
async def test_the_share_of_tests_that_pass(name: str) -> None:
    tests, share = PARTS[name]
    outcome = await run_tests("def f(x): return x + 1", tests, "f", timeout_s=20.0, partial=True)
    assert (outcome.kind, outcome.share) == ("failed", share)


async def test_a_missing_module_is_an_outcome_of_its_own() -> None:
    tests = "assert f(1) == 2"
    for program in ("import nothing_such.inner\ndef f(x): return 2", "def f(x):\n    import nothing_such"):
        assert await run_tests(program, tests, "f", timeout_s=20.0) == ProgramResult("missing_module", "nothing_such")
    guarded = "try:\n    import nothing_such\nexcept ImportError:\n    pass\ndef f(x): return 2"
    assert (await run_tests(guarded, tests, "f", timeout_s=20.0)).kind == "passed"
