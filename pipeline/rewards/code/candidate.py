"""The candidate's side of the sandbox: runs the program, then does with what it made as the judge asks.

Everything here is in the program's hands. The judge's messages are an operation with its values, or the answer of a
function of the tests that the program called."""

from __future__ import annotations

import _operator as operator
import io
import sys

from pipeline.rewards.code.channel import Channel, Nowhere, compiled, described, raised
from pipeline.rewards.code.serialization import (
    ARITHMETIC,
    MAX_ITEMS,
    MUTABLE_TAGS,
    UNARY,
    Values,
    become,
    holding,
    state_of,
    taken,
)
from pipeline.rewards.code.threads import replace_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

ABLE = {
    *("len", "getitem", "setitem", "delitem", "next", "call", "iter", "contains", "enter", "exit", "aenter", "aexit"),
    *("abs", "float", "int", "round", "index", "lt", "le", "gt", "ge", *UNARY),
}
METHODS = ["__dataclass_fields__"] + [
    f"__{name}__" for name in (*sorted(ABLE), *(before + name for before in ("", "r", "i") for name in ARITHMETIC))
]
CHANGEABLE = {*MUTABLE_TAGS, "ndarray", "object"}
MAX_PRINTED_BYTES = 1 << 18
OPERATIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(operator, name) for name in ("eq", "lt", "le", "gt", "ge", "getitem", "setitem", "delitem")},
    "contains": operator.contains,
    "truth": operator.truth,
    **{function.__name__: function for function in (len, next, iter, repr, getattr, setattr, delattr, isinstance)},
    "issubclass": issubclass,
    "become": lambda one, name, value: become(getattr(one, name), value),
    "probe": operator.contains,
    "copy": lambda one, name: getattr(__import__("copy"), name)(one),
    "str": str,
    "call": lambda function, *arguments, **named: function(*arguments, **named),
    "arithmetic": lambda one, name, other: operator_named(name)(one, other),
    "reflected": lambda one, name, other: operator_named(name)(other, one),
    "unary": lambda one, name: operator_named(name)(one),
    "items": taken,
    "state": state_of,
    "enter": lambda one: type(one).__enter__(one),
    "aenter": lambda one: type(one).__aenter__(one),
}


def operator_named(name: str) -> Any:
    return getattr(operator, name, None) or getattr(operator, f"{name}_")


class Printed(Nowhere):
    """The first part of what is printed."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, content: Any) -> int:
        self.content += bytes(content)[: MAX_PRINTED_BYTES - len(self.content)]
        return len(content)

    def taken(self) -> str:
        content, self.content = self.content, bytearray()
        return content.decode(errors="replace")


class Settled:
    """A coroutine that has run already, as it is written."""

    def __init__(self, *settled: Any) -> None:
        self.settled = settled


class Program:
    """The program's module, and all that the judge has handles of; the function or class under test is number 0."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._module = type(sys)("solution")
        self._kept: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._functions: dict[int, int] = {}  # of the tests: by the identity of what stands for them here
        self._loop: Any = None
        self._last: list[list[Any]] = []
        self._objects: dict[int, Any] = {}
        self._print = Printed()
        self._stdout = sys.stdout = io.TextIOWrapper(io.BufferedWriter(self._print), "utf-8", "replace")
        readers: dict[str, Callable[..., Any]] = {"function": self._function, "remote": self._kept.__getitem__}
        readers |= {"enum": self._member, "awaitable": self._awaited}
        raw: dict[str, Callable[..., Any]] = {"object": self._object, "same": self._objects.__getitem__}
        self._values = Values(self._write, readers, raw, writes_factories=False)

    def serve(self) -> None:
        task = self._channel.receive()
        sys.modules["solution"] = self._module
        replace_threads(task["program"])
        problem: list[Any] | None = None
        try:
            exec(compiled(task["program"], "<solution>"), self._module.__dict__)  # noqa: S102 - what this is for
            self._number(getattr(self._module, task["entry_point"]))
        except BaseException as error:  # noqa: BLE001 - reported at every call
            kind, names, message = described(error)
            problem = [kind if kind == "missing" else "ended", names, message]
        while True:
            message = self._channel.receive()
            self._channel.reply(problem or self._done(message))

    def _done(self, message: list[Any]) -> list[Any]:
        """The reply to an operation."""
        try:
            operation, values, named = message
            if operation == "program":
                return self._returned(self._kept[0])
            if operation == "found":
                return self._returned({name: self._found(name) for name in values})
            if operation == "changes":
                return self._returned(self._last)
            printed = self._printed()
            if operation == "printed":
                return self._returned(printed)
            self._objects.clear()
            (*given, by_name), known = self._values.read([*values, named])
            done = self._leave if operation == "leave" else OPERATIONS[operation]
            result = self._settled(done(*given, **by_name))
            if operation == "call":
                self._last = self._changed(values, named, given, by_name)
                if self._last:
                    return ["changed", *self._returned(result)[1:]]
            return self._returned(result, known)
        except BaseException as error:  # noqa: BLE001 - reported to the judge
            return self._described(error)

    def _printed(self) -> str:
        """What was printed since this was asked last."""
        self._stdout.flush()
        return self._print.taken()

    def _returned(self, result: Any, known: Iterable[Any] = ()) -> list[Any]:
        return ["returned", self._values.write_one(result, known)]

    def _described(self, error: BaseException) -> list[Any]:
        """How what the program raised is reported: with the attributes that it gave it."""
        reply = described(error)
        if reply[0] == "raised" and (state := getattr(error, "__dict__", None)):
            try:
                return [*reply, self._values.write_one(dict(state))]
            except BaseException:  # noqa: BLE001 - the error without them
                return reply
        return reply

    def _found(self, name: str) -> list[Any] | None:
        """A class or function of the program's by its name: a handle, and of an exception the classes that it derives
        from."""
        found = vars(self._module).get(name)
        if getattr(found, "__module__", "") != "solution" or not callable(found):
            return None
        is_exception = isinstance(found, type) and issubclass(found, BaseException)
        return [found, [kind.__name__ for kind in found.__mro__] if is_exception else None]

    def _leave(self, one: Any, method: str, names: Any = (), message: str = "") -> Any:
        """Leave a context, with an exception of the tests' where they raised one."""
        error = raised(names, message, vars(self._module)) if names else None
        return getattr(type(one), method)(one, type(error) if error else None, error, None)

    def _changed(self, nodes: list[Any], named: list[Any], given: list[Any], by_name: dict[str, Any]) -> list[Any]:
        """The arguments that a call changed, by their places."""
        before = [*nodes, *named[2::2]]
        if not any(type(node) is list and node[0] in CHANGEABLE for node in before):
            return []
        *after, named_after = self._values.write([*given, by_name])[0]
        places = enumerate(zip(before, [*after, *named_after[2::2]], [*given, *by_name.values()], strict=True))
        return [
            [place, value]
            for place, (node, now, value) in places
            if type(node) is list and node[0] in CHANGEABLE and node != now
        ]

    # Writing.

    def _write(self, value: Any) -> tuple[str, Iterable[Any]]:
        if id(value) in self._functions:
            return "function", (self._functions[id(value)],)
        value = self._settled(value)
        if type(value) is Settled:
            return value.settled
        # By the classes themselves: a metaclass has methods of its own.
        kinds = [vars(kind) for kind in type(value).__mro__ if kind is not object]
        abilities = [method for method in METHODS if any(method in kind for kind in kinds)]
        return "remote", (self._number(value), type(value).__name__, abilities)

    def _settled(self, value: Any) -> Any:
        """What is waited for, and what came of it; any other value as it is."""
        if hasattr(value, "__await__"):
            return Settled("awaitable", self._outcome(value))
        if hasattr(type(value), "__aiter__") and hasattr(type(value), "__anext__"):
            return Settled("later", self._run(self._collected(value)))
        return value

    def _number(self, value: Any) -> int:
        """The number of what the judge gets a handle of; it is kept."""
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._kept)
            self._kept.append(value)
        return self._numbers[id(value)]

    def _outcome(self, coroutine: Any) -> tuple[Any, ...]:
        async def wait() -> Any:
            return await coroutine

        try:
            return "returned", self._run(wait())
        except BaseException as error:  # noqa: BLE001 - raised again where the tests await it
            return tuple(self._described(error))

    def _run(self, coroutine: Any) -> Any:
        import asyncio

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(coroutine)

    @staticmethod
    async def _collected(items: Any) -> list[Any]:
        found: list[Any] = []
        async for item in items:
            found.append(item)
            if len(found) == MAX_ITEMS:
                break
        return found

    # Reading.

    def _function(
        self, number: int, is_async: bool, name: str | None, doc: str | None, names: list[str] | None
    ) -> Callable[..., Any]:
        """What stands for a function of the tests."""

        def call(*arguments: Any, **named: Any) -> Any:
            self._channel.reply(["callback", number, self._values.write_one([list(arguments), named])])
            while True:
                message = self._channel.receive()
                if message[0] == "answer":
                    break
                self._channel.reply(self._done(message))  # the function called the program in its turn
            if message[1] == "returned":
                return self._values.read_one(message[2])
            raise raised(message[2], message[3])

        async def wait(*arguments: Any, **named: Any) -> Any:
            return await call(*arguments, **named)

        made: Any = wait if is_async else call
        if names is not None and not is_async:  # a program may ask how many it takes
            listed = ", ".join(names)
            made = eval(f"lambda {listed}: _call({listed})", {"_call": call})  # noqa: S307 - names of the tests'
        if name is not None:
            made.__name__ = made.__qualname__ = name
        made.__doc__ = doc
        self._functions[self._keep(made)] = number
        return made

    def _keep(self, value: Any) -> int:
        self._kept.append(value)
        return id(value)

    def _object(self, name: str, number: int, *parts: Any) -> Any:
        """An object of a class of the tests': of the program's own class of that name, where it has one."""
        kind = vars(self._module).get(name)
        made: Any = object.__new__(kind if isinstance(kind, type) else type(str(name), (), {}))
        self._objects[number] = made
        for key, node in zip(parts[::2], parts[1::2], strict=True):
            object.__setattr__(made, key, self._values.decode(node))
        return made

    def _member(self, name: str, member: str, value: Any) -> Any:
        """A member of an enumeration of the tests'."""
        kind = vars(self._module).get(name)
        if isinstance(kind, type):
            return getattr(kind, member, None)
        return holding(object.__new__(type(name, (), {})), {"value": value})

    @staticmethod
    async def _awaited(value: Any) -> Any:
        return value
