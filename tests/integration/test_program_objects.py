# ruff: noqa: E501
"""What of a program reaches its tests beside plain values: which object it is, its class, what it prints, what its
exceptions hold; and programs that are helped by none of it."""

from __future__ import annotations

import pytest

from pipeline.rewards.code import sandbox
from pipeline.rewards.code.case_runner import Case, run_cases
from pipeline.rewards.code.pool import SandboxPool
from pipeline.rewards.code.test_runner import ProgramResult, run_tests

PROBLEM = sandbox.isolation_problem()
pytestmark = pytest.mark.skipif(PROBLEM is not None, reason=f"programs not run: {PROBLEM}")

ENUM = "from enum import Enum\nclass C(Enum):\n    RED = 1\n    BLUE = 2\ndef f(c): return C.BLUE if c is C.RED else C.RED\n"
# Name: what is under test, a right program, what is replaced in it to make it wrong, and the tests.
RIGHT = {
    "the same list": ("f", "def f(x): return x", ("return x", "return x[:]"), "x = [1]\nassert f(x) is x"),
    "a list of the argument's": ("f", "def f(x): return x[0]", ("x[0]", "x[0][:]"), "x = [[1]]\nassert f(x) is x[0]"),
    "a copy": ("f", "def f(x): return x[:]", ("x[:]", "x"), "x = [1]\ny = f(x)\nassert y == x and y is not x"),
    "a deep copy": ("f", "import copy\ndef f(x): return copy.deepcopy(x)", ("copy.deepcopy(x)", "x[:]"), "x = [[1], [2]]\ny = f(x)\ny[0].append(9)\nassert x == [[1], [2]]"),
    "rows of their own": ("f", "def f(n): return [[0] * n for _ in range(n)]", ("[[0] * n for _ in range(n)]", "[[0] * n] * n"), "g = f(2)\ng[0][0] = 1\nassert g == [[1, 0], [0, 0]]"),
    "one list given twice": ("f", "def f(a, b): return a is b", ("a is b", "a == b"), "x = [1]\nassert f(x, x) and not f([1], [1])"),
    "a single object": ("f", "class A: pass\none = A()\ndef f(): return one", ("return one", "return A()"), "assert f() is f()"),
    "members of an enumeration": ("C", ENUM, ("BLUE = 2", "BLUE = 3"), "assert C['BLUE'].value == 2 and C(2) is C.BLUE and [c.name for c in C] == ['RED', 'BLUE'] and len(C) == 2"),
    "an enumeration, and a function": ("f", ENUM, ("if c is", "if c is not"), "assert f(f(C.RED)) is C.RED and f(C.RED) == C.BLUE"),
    "two functions": ("encode", "def encode(s): return s[::-1]\ndef decode(s): return s[::-1]", ("def decode(s): return s[::-1]", "def decode(s): return s"), "assert encode('ab') == 'ba'\nassert decode(encode('abc')) == 'abc'"),
    "imported from the program": ("f", "def f(x): return g(x) + 1\ndef g(x): return 2 * x", ("2 * x", "3 * x"), "from solution import f, g\ndef test_f(): assert f(1) == 3\ndef test_g(): assert g(2) == 4"),
    "tests of a class, as pytest has them": ("f", "def f(x): return x + 1", ("+ 1", "+ 2"), "class TestF:\n    def setup_method(self): self.x = 1\n    def test_one(self): assert f(self.x) == 2"),
    "what is printed": ("f", "def f(x): print('got', x)", ("got", "had"), "import io, contextlib\nf(0)\nout = io.StringIO()\nwith contextlib.redirect_stdout(out): f(1)\nassert out.getvalue() == 'got 1\\n'"),
    "what an exception holds": ("f", "class E(ValueError):\n    def __init__(self, field):\n        super().__init__('bad')\n        self.field = field\ndef f(x): raise E('x')", ("E('x')", "E('y')"), "try:\n    f(1)\n    assert False\nexcept E as e:\n    assert e.field == 'x' and str(e) == 'bad'"),
    "names of classes": ("A", "class A:\n    'Doc.'\n    def __init__(self): self.x = 1", ("'Doc.'", "'Text.'"), "a = A()\nassert type(a).__name__ == 'A' and A.__doc__ == 'Doc.' and vars(a) == {'x': 1}"),
    "classes of classes": ("B", "class A: pass\nclass B(A): pass", ("class B(A)", "class B"), "assert issubclass(B, A) and isinstance(B(), A)"),
    "fields of a dataclass": ("A", "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n    y: int = 2", ("y: int = 2", "y: int = 3"), "from dataclasses import asdict\nassert asdict(A(1)) == {'x': 1, 'y': 2}"),
    "copies of an object": ("A", "class A:\n    def __init__(self): self.x = 1\n    def up(self): self.x += 1", ("+= 1", "+= 2"), "import copy\na = A()\nb = copy.deepcopy(a)\nb.up()\nassert (a.x, b.x) == (1, 2)"),
    "a function's name and doc": ("f", "import functools\ndef f(g):\n    @functools.wraps(g)\n    def inner(*a): return g(*a)\n    return inner", ("@functools.wraps(g)", "@(lambda h: h)"), "@f\ndef add(a, b):\n    'Adds.'\n    return a + b\nassert add(1, 2) == 3 and add.__name__ == 'add' and add.__doc__ == 'Adds.'"),
    "how many arguments a function takes": ("f", "import inspect\ndef f(g): return len(inspect.signature(g).parameters)", ("len(", "1 + len("), "assert f(lambda a, b: a) == 2 and f(lambda: 1) == 0"),
    "threads": ("f", "from concurrent.futures import ThreadPoolExecutor\ndef f(xs):\n    with ThreadPoolExecutor(2) as pool: return list(pool.map(abs, xs))", ("abs", "float"), "assert f([-1, 2]) == [1, 2]"),
    "threads of the tests": ("A", "import threading\nclass A:\n    def __init__(self): self.n, self.lock = 0, threading.Lock()\n    def up(self):\n        with self.lock: self.n += 1", ("+= 1", "+= 2"), "import threading\na = A()\nall_ = [threading.Thread(target=a.up) for _ in range(3)]\nfor t in all_: t.start()\nfor t in all_: t.join()\nassert a.n == 3"),
    "a path": ("f", "from pathlib import Path\ndef f(p): return Path(p).parent", (".parent", ""), "from pathlib import Path\nassert f('/a/b') == Path('/a') and f(Path('/c/d')) == Path('/c')"),
    "attributes changed by the tests": ("A", "class A:\n    def __init__(self): self.tags, self.d = [], {'k': [1]}\n    def num(self): return len(self.tags) + len(self.d['k'])", ("len(self.tags) +", "9 +"), "a, b = A(), A()\na.tags.append('t')\na.d['k'].append(2)\nassert a.num() == 3 and a.tags == ['t'] and b.tags == [] and b.num() == 1"),
    "attributes of their own": ("A", "class A:\n    def __init__(self): self.tags = []", ("    def __init__(self): self.tags = []", "    tags = []"), "a, b = A(), A()\na.tags.append('t')\nassert a.tags == ['t'] and b.tags == []"),
    "a property that is a copy": ("A", "class A:\n    def __init__(self): self._x = [1]\n    @property\n    def x(self): return self._x[:]", ("self._x[:]", "self._x"), "a = A()\na.x.append(2)\nassert a.x == [1]"),
    "parts of an object": ("A", "class A:\n    def __init__(self, x): self.x = x\n    def __getitem__(self, i): return self.x[i]", ("return self.x[i]", "return self.x[i:]"), "a = A([1, 2, 3])\nassert a[1:] == [2, 3] and a[0] == 1"),
    "a container": ("f", "class T:\n    def __init__(self, s): self.s = s\n    def __contains__(self, x): return x in self.s\ndef f(s): return T(s)", ("return x in self.s", "return x not in self.s"), "assert 'b' in f('abc') and 'z' not in f('abc')"),
    "a container of numbers": ("f", "class T:\n    def __contains__(self, x): return 0 <= x < 10\ndef f(): return T()", ("< 10", "< 5"), "assert 7 in f() and 11 not in f()"),
}  # fmt: skip
LIES = "import numpy as np\nclass A(np.ndarray):\n    def __eq__(s, o): return np.ones(2, bool)\nclass Y:\n    def __eq__(s, o): return True\n"
ARRAYS = {
    "given and returned": ("def f(a): return a * 2", "assert np.allclose(f(np.array([1., 2.])), [2., 4.]) and f(np.eye(2)).shape == (2, 2)", True),
    "their kinds": ("import numpy as np\ndef f(n): return np.arange(n, dtype='int16')", "a = f(3)\nassert isinstance(a, np.ndarray) and a.dtype == np.int16 and a.tolist() == [0, 1, 2]", True),
    "one number": ("import numpy as np\ndef f(n): return np.arange(n).sum(), np.bool_(True)", "assert f(4) == (6, True)", True),
    "none in one": ("import numpy as np\ndef f(n): return np.zeros((0, 3))", "assert f(1).shape == (0, 3)", True),
    "changed in place": ("def f(a): a[:] = 1", "a = np.zeros((2, 2))\nf(a)\nassert a.sum() == 4", True),
    "another one": ("import numpy as np\ndef f(a): return a * 3", "assert np.allclose(f(np.ones(2)), [2, 2])", False),
    "equal to everything": (LIES + "def f(x): return np.zeros(2).view(A)", "assert (f(1) == np.array([1, 2])).all()", False),
    "of objects": (LIES + "def f(x): return np.array([Y(), Y()], dtype=object)", "assert np.array_equal(f(1), [1, 2])", False),
    "no numbers": (LIES + "def f(x): return np.full(2, np.nan)", "assert np.allclose(f(1), [1, 2])", False),
}  # fmt: skip
ALL = "class Y:\n    def __contains__(s, o): return True\n    def __eq__(s, o): return True\n"
HACKS = {
    "contains everything": (ALL + "def f(x): return Y()", "assert 'b' in f('abc')"),
    "called as a built-in exception": ("class ValueError(Exception): pass\ndef f(x):\n    if x < 0: raise ValueError('x')\n    return x", "assert f(1) == 1\ntry:\n    f(-1)\n    assert False\nexcept ValueError: pass"),
    "an exception that equals everything": (ALL + "class E(Exception): code = Y()\ndef f(x):\n    e = E()\n    e.code = Y()\n    raise e", "try:\n    f(1)\n    assert False\nexcept Exception as e:\n    assert e.code == 404"),
    "an exception's state forged": ("class E(Exception):\n    @property\n    def __dict__(s): return {'__class__': int, 'args': 3, 'with_traceback': 1, 3: 4}\ndef f(x): raise E", "try:\n    f(1)\nexcept ValueError: pass"),
    "an end of the program, awaited": ("async def f(x): raise GeneratorExit", "import asyncio\nasync def main():\n    assert await f(1) == 2\ntry:\n    asyncio.run(main())\nexcept BaseException as e:\n    if isinstance(e, AssertionError): raise"),
    "arguments emptied and returned as they are": ("def f(x):\n    x.clear()\n    return x", "x = [3, 1]\nassert f(x) == sorted(x)"),
    "an argument named that is none": ("from pipeline.rewards.code import serialization as s\ns.Values.encode = lambda self, v: ['again', 7]\ndef f(x): return x", "x = [1]\nassert f(x) is x"),
    "an argument in place of a result": ("from pipeline.rewards.code import serialization as s\ns.Values.encode = lambda self, v: ['again', 0]\ndef f(x): return x", "x = [3, 1]\nassert f(x) == sorted(x)"),
    "a list within itself": ("def f(x):\n    x = []\n    x.append(x)\n    return x", "assert f(1) == [1] or f(1)[0] == [1]"),
    "printed text in place of a result": ("def f(x): print('assert True')", "import io, contextlib\nout = io.StringIO()\nwith contextlib.redirect_stdout(out):\n    assert f(1) == 2"),
    "name of a class": ("class f:\n    def __new__(c, x): return type('int', (), {'__eq__': lambda s, o: True})()", "r = f(1)\nassert type(r).__name__ == 'int' and r == 2"),
    "a thread that lasts": ("import threading\ndef run():\n    while True: pass\nthreading.Thread(target=run).start()\ndef f(x): return 2", "assert f(1) == 3"),
    "of a helper the program's": ("def f(x): return 0\ndef near(a, b): return True", "def near(a, b): return abs(a - b) < 1e-6\nassert near(f(1), 2)"),
    "module of the program replaced": ("import sys\nsys.modules['solution'] = 7\ndef f(x): return 0", "from solution import f\nassert f(1) == 2"),
    "no function at all": ("f = 2", "assert f == 2\nassert f(1) == 2"),
}  # fmt: skip
FAST = """import os, sys
from io import BytesIO, IOBase
class FastIO(IOBase):
    def __init__(self, file):
        self._fd, self.buffer = file.fileno(), BytesIO()
        self.write = self.buffer.write if "x" in file.mode or "r" not in file.mode else None
    def readline(self):
        self.buffer = BytesIO(os.read(self._fd, 9999))
        return self.buffer.readline()
    def flush(self): os.write(self._fd, self.buffer.getvalue())
out = FastIO(sys.stdout)
out.write(b'%d' % (2 * int(FastIO(sys.stdin).readline())))
out.flush()
"""
PRINTERS = {
    "mode of the streams": FAST,
    "a stream by its name": "n = int(open('/dev/stdin').read())\nwith open('/dev/stdout', 'w') as out: print(2 * n, file=out)",
    "a path to a stream": "from pathlib import Path\nprint(2 * int(Path('/dev/stdin').read_text()))",
    "a pool of threads": "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor() as pool: print(2 * pool.submit(int, input()).result())",
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
async def test_a_right_program_is_paid_and_a_wrong_one_is_not(name: str) -> None:
    entry_point, program, change, tests = RIGHT[name]
    assert change[0] in program
    async with SandboxPool(20.0, num_ahead=1) as pool:
        right = await run_tests(program, tests, entry_point, timeout_s=20.0, pool=pool)
        assert right == ProgramResult("passed", "", 1.0)
        other = await run_tests(program.replace(*change), tests, entry_point, timeout_s=20.0, pool=pool)
    assert other.kind == "failed", other


@pytest.mark.parametrize("name", ARRAYS)
async def test_arrays_are_values(name: str) -> None:
    program, tests, is_right = ARRAYS[name]
    async with SandboxPool(20.0, ("numpy",)) as pool:
        found = await run_tests(program, f"import numpy as np\n{tests}", "f", timeout_s=20.0, pool=pool)
    assert found.kind == ("passed" if is_right else "failed"), found


async def test_hacks_are_not_paid() -> None:
    async with SandboxPool(3.0, num_ahead=1) as pool:
        found = {name: await run_tests(*hack, "f", timeout_s=3.0, pool=pool) for name, hack in HACKS.items()}
    assert {name: outcome for name, outcome in found.items() if outcome.kind == "passed"} == {}


async def test_programs_that_read_and_print() -> None:
    cases = [Case(input="3\n", output="6\n"), Case(input="4\n", output="8\n")]
    async with SandboxPool(20.0, num_ahead=1) as pool:
        found = {name: await run_cases(each, cases, timeout_s=20.0, pool=pool) for name, each in PRINTERS.items()}
        letters = Case(input="é", output="é" * 1_500_000)
        found["many letters"] = await run_cases("print(input() * 1_500_000)", [letters], timeout_s=20.0, pool=pool)
    assert {name: one for name, one in found.items() if one.kind != "passed"} == {}
