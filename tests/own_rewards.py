"""Reward functions as users write them: broken ones with words of what is said of them, and sound ones.

Each is headed `### name` (`=> words`), then its module, in which it is called `f`."""

from __future__ import annotations

import sys
import types

import pytest

_BROKEN = r"""
### raises => no reward for the gold answer to p7 (What is 7 + 0?)
def f(response, answer):
    raise KeyError('level')
### raises, with its line => ZeroDivisionError: division by zero (own_reward.py, line 3, in f)
def f(response, answer):
    x = 1
    return 1 / 0
### raises on the empty one => no reward for the empty answer
def f(response, answer):
    return float(response.split()[-1] == answer)
### nan => ValueError: returned nan; a finite number
def f(response, answer):
    return float('nan')
### infinite => returned -inf
def f(response, answer):
    return -float('inf')
### beyond float32 => returned 1e+30, which is beyond ±1,000,000
def f(response, answer):
    return 1e30 if answer in response else -1e30
### an integer without end => returned inf; a finite number
def f(response, answer):
    return 10 ** (400 if answer in response else 2)
### none => returned None; a number, or (number, text), is expected
def f(response, answer):
    answer in response
### list => returned [1.0] (list)
def f(response, answer):
    return [1.0]
### text => returned '1.0' (str)
def f(response, answer):
    return '1.0'
### table => (dict); a number
def f(response, answer):
    return {'score': 1.0}
### two numbers => returned (1.0, 2.0) (tuple)
def f(response, answer):
    return 1.0, 2.0
### a class => (f); a number
class f:
    def __init__(self, response, answer): pass
### too few arguments inside => TypeError: g() missing 1 required positional argument: 'b'
def g(a, b): return 1.0
def f(response, answer):
    return g(response)
### unlike any contract => f(x, y) does not tell which of x, y is the response
def f(x, y):
    return 1.0
### no parameters => f(response, task)
def f():
    return 1.0
### no such function => module 'own_reward' has no function 'f'
def g(): pass
### constant => it gave 0.5 to every answer, right, wrong, empty and long alike
def f(response, answer):
    return 0.5
### always wrong => it gave 0 to every answer
def f(response, answer):
    return float(response == 'no such text')
### async and raises => OSError: the judge is down (own_reward.py, line 2, in f)
async def f(response, answer):
    raise OSError('the judge is down')
### async and none => returned None
async def f(response, answer):
    pass
### async and late => no reward within 0.05 s; make it faster, or raise reward.timeout_s = 0.05
import asyncio
async def f(response, answer):
    await asyncio.sleep(60)
### exits => SystemExit: bye
import sys
def f(response, answer):
    sys.exit('bye')
### a list for one => a list of 1 numbers is expected
def f(completions, **kwargs):
    return 1.0
### too few for a list => returned 0 rewards for 1 completions
def f(completions, **kwargs):
    return []
### needs a trainer => needs 'trainer_state'
def f(completions, trainer_state):
    return [1.0]
### needs a column => nothing is known for rubric
def f(completion, rubric):
    return 1.0
### messages as texts => write `completions: list[str]` to be given texts
def f(completions, answer, **kwargs):
    return [float(len(c)) for c in completions]
### messages as a text => write `completion: str` to be given texts
import re
def f(completion, answer):
    return float(bool(re.search(answer, completion)))
"""

_FATAL = r"""
### exits at once => its process ended (status 3)
import os
def f(r, answer): os._exit(3)
### is killed => its process ended (status -9)
import os
def f(r, answer): os.kill(os.getpid(), 9)
### sleeps => no reward within reward.timeout_s = 1; make it faster
import time
def f(r, answer): time.sleep(60)
### spins on the long one => no reward for the long answer
def f(r, answer):
    while len(r) > 1000: pass
    return answer in r
### interrupts => KeyboardInterrupt: by hand
def f(r, answer): raise KeyboardInterrupt('by hand')
### interrupts an async one => KeyboardInterrupt (
async def f(r, answer): raise KeyboardInterrupt
### raises what only interpreters raise => GeneratorExit
def f(r, answer): raise GeneratorExit
### closes files => it closed a file that it did not open, the pipe that rewards go through
import os
def f(r, answer): os.closerange(3, 100)
### closes all files => its process ended (status 1)
import os
def f(r, answer): os.closerange(0, 100)
### is async and blocks => no reward within reward.timeout_s = 1
import time
async def f(r, answer): time.sleep(60)
### sleeps over a list => no reward within reward.timeout_s = 1
import time
def f(completions, **kw): time.sleep(60)
### takes memory => MemoryError
def f(r, answer): return len(bytearray(8 << 30))
### reads what is not its own => EOFError
def f(r, answer): return float(input())
### raises when imported => importing 'FATAL' raised RuntimeError: no GPU here
raise RuntimeError('no GPU here')
### exits when imported => importing 'FATAL' raised SystemExit: 4
import sys
sys.exit(4)
### is no Python => importing 'FATAL' raised SyntaxError
def f(r, answer) return 1
### lacks a module => No module named 'no_such_module_at_all'
import no_such_module_at_all
def f(r, answer): return 1
### dies when imported => a verifier worker ended at its start
import os
os._exit(5)
"""

_SOUND = r"""
### graded
def f(response, answer):
    return len(response) / 100 - 3.5 + (answer in response)
### with words
def f(response, task):
    return (1.0, 'right') if task.answer in response else (0.0, 'wrong')
### async
import asyncio
async def f(response, task):
    await asyncio.sleep(0)
    return float(task.answer in response)
### sync over a loop of its own
import asyncio
async def g(x): return x
def f(response, gold):
    return asyncio.run(g(float(gold in response)))
### over lists
def f(completions, answer, **kwargs):
    return [float(a in c[0]['content']) for c, a in zip(completions, answer)]
### over texts
def f(prompts, completions: list[str], **kwargs):
    return [float(len(c)) for c in completions]
### async over lists
async def f(completions: list[str], **kwargs):
    return [float(len(c)) for c in completions]
### of a rubric
def f(completion, answer, **kwargs):
    return float(answer in completion[-1]['content'])
### of a state
async def f(state):
    return float(state['answer'] in state['completion'][-1]['content'])
### an object
class F:
    def __call__(self, response, answer): return float(answer in response)
f = F()
### a lambda
f = lambda text, gold: gold in text
### a form of its own
def f(response, answer):
    return float(f'<answer>{answer}</answer>' in response)
### a length
def f(response):
    return -len(response)
"""


def own(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module `own_reward` with this source."""
    module = types.ModuleType("own_reward")
    exec(compile(source, "/home/me/own_reward.py", "exec"), module.__dict__)
    monkeypatch.setitem(sys.modules, "own_reward", module)


def _read(text: str) -> dict[str, tuple[str, str]]:
    """By name the module's source, and the words after the arrow."""
    found = {}
    for part in text.split("### ")[1:]:
        head, _, source = part.partition("\n")
        name, _, words = head.partition(" => ")
        found[name] = (source, words)
    return found


BROKEN = _read(_BROKEN)
FATAL = _read(_FATAL)
"""They end or stall their process; their words call their module FATAL."""
SOUND = {name: source for name, (source, _) in _read(_SOUND).items()}
