"""What runs inside of a sandbox, as one compiled file: the guest, with those modules of the project that its role has.

They come compiled, because a sandbox starts more often than anything else of the project."""

from __future__ import annotations

import inspect
import marshal
import os
from functools import cache
from importlib.util import MAGIC_NUMBER
from types import ModuleType
from typing import Literal

from pipeline.rewards.code import (
    attributes,
    call_sites,
    candidate,
    channel,
    checker,
    guest,
    judge,
    printer,
    remote,
    serialization,
    test_units,
    threads,
)

Role = Literal["candidate", "judge", "printer", "checker", "probe"]
NEEDED: dict[Role, tuple[ModuleType, ...]] = {
    "candidate": (channel, serialization, threads, candidate),
    "judge": (channel, serialization, remote, attributes, test_units, threads, judge, call_sites),
    "printer": (channel, threads, printer),
    "checker": (channel, checker),
    "probe": (channel,),
}
# Each module runs when it is first imported, under its full name.
_FINDER = """
import sys
class Bundle:
    def find_spec(self, name, path=None, target=None):
        if name in MODULES:
            return SPEC(name, self, is_package=MODULES[name] is None)
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        if MODULES[module.__name__] is not None:
            exec(MODULES[module.__name__], module.__dict__)
SPEC = type(sys.__spec__)
sys.meta_path.insert(0, Bundle())
exec(MODULES["guest"], globals())
"""


@cache
def compiled(role: Role) -> bytes:
    """The content of a .pyc file."""
    modules = NEEDED[role]
    names = [module.__name__ for module in modules]
    parents = {name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1)}
    codes = dict.fromkeys(parents) | {
        module.__name__: compile(inspect.getsource(module), module.__name__, "exec") for module in modules
    }
    codes["guest"] = compile(inspect.getsource(guest), "<guest>", "exec")
    text = f"import marshal\nMODULES = marshal.loads({marshal.dumps(codes)!r})\n{_FINDER}"
    return MAGIC_NUMBER + bytes(12) + marshal.dumps(compile(text, "<sandbox>", "exec"))


def as_file(content: bytes) -> int:
    """A file without a name that holds `content`, to be read once by a child."""
    number = os.memfd_create("sandbox")
    os.write(number, content)
    os.lseek(number, 0, os.SEEK_SET)
    return number
