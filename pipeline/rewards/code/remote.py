"""Handles by which the tests use what stays in the candidate's sandbox: objects, classes and functions of the program.

Invariants: a handle equals no plain data, whatever the program's `__eq__` says, and no arithmetic of a handle with
plain data gives plain data: an object of the program cannot pass for the number or text that a test expects. Two
handles are equal when the program says so and both hold the same; where it says so of objects that differ, nobody can
judge. Limit: what its own objects hold, a program may say falsely, so a test that compares two of them trusts it. Runs
in the judge.
"""

from __future__ import annotations

from pipeline.rewards.code.serialization import ARITHMETIC, MAX_ITEMS, UNARY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

SHOWN = ("__name__", "__qualname__")
"""Of all names with two underscores, attributes that a test may read."""
NUMBERS = ("abs", "float", "int", "round", "index")


class Remote:
    """What the program made and only its sandbox has; `ask` has it used there."""

    def __init__(self, handle: Handle) -> None:
        object.__setattr__(self, "_Remote__handle", handle)

    def __bool__(self) -> bool:
        return ask("truth", self) is True

    def __repr__(self) -> str:
        return str(ask("repr", self))

    def __str__(self) -> str:
        return str(ask("str", self))

    def __getattr__(self, name: str) -> Any:
        if name[:2] == "__" and name not in SHOWN:
            raise AttributeError(name)
        return ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        ask("setattr", self, name, value)

    def __delattr__(self, name: str) -> None:
        ask("delattr", self, name)

    def __hash__(self) -> int:
        return hash(handle_of(self).name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Remote):
            return False
        mine, others = handle_of(self), handle_of(other)
        if mine.number == others.number:
            return True
        if ask("eq", self, other) is not True:
            return False
        state = ask("state", self)
        if mine.name != others.name or not state or state != ask("state", other):
            _refuse(self, "equality by a rule of its own")
        return True

    def __copy__(self) -> Any:
        return ask("copy", self, "copy")

    def __deepcopy__(self, memo: Any) -> Any:
        return ask("copy", self, "deepcopy")

    def __subclasscheck__(self, kind: Any) -> bool:
        return isinstance(kind, Remote) and ask("issubclass", kind, self) is True

    def __instancecheck__(self, value: object) -> bool:
        return isinstance(value, Remote) and ask("isinstance", value, self) is True


class Handle:
    """Which object it is, by its number in the candidate's sandbox, and how it is asked for."""

    def __init__(self, ask: Callable[..., Any], number: int, name: str) -> None:
        self.ask, self.number, self.name = ask, number, name


def handle_of(one: Remote) -> Handle:
    found: Handle = object.__getattribute__(one, "_Remote__handle")
    return found


def ask(operation: str, one: Remote, *values: Any, **named: Any) -> Any:
    """What `operation` gives in the candidate's sandbox, of `one` and these values."""
    return handle_of(one).ask(operation, one, *values, **named)


def _refuse(one: Remote, what: str) -> NoReturn:
    name = handle_of(one).name
    ask("refuse", one, f"the tests ask for the {what} of a {name}, which stays in the candidate's sandbox")
    raise AssertionError  # the line above raises


def _refusing(what: str) -> Callable[..., NoReturn]:
    def refuse(self: Remote, *_: Any) -> NoReturn:
        _refuse(self, what)

    return refuse


def _arithmetic(operation: str, *, reflected: bool) -> Callable[..., Any]:
    def compute(self: Remote, other: Any) -> Any:
        if not isinstance(other, Remote | int | float):
            return NotImplemented
        result = ask("reflected" if reflected else "arithmetic", self, operation, other)
        if not isinstance(result, Remote) and not isinstance(other, Remote):
            _refuse(self, f"{operation} with plain data")
        return result

    return compute


def _unary(operation: str) -> Callable[..., Any]:
    def compute(self: Remote) -> Any:
        result = ask("unary", self, operation)
        return result if isinstance(result, Remote) else _refuse(self, operation)

    return compute


def _left(self: Remote, kind: Any, error: BaseException | None, trace: Any) -> Any:
    """Whether the program's `__exit__` ends what the tests raised, and may."""
    may_end = error is not None and ask("may_end", self, error)
    return ask("leave", self, "__exit__", *_told(error)) and may_end


async def _async_left(self: Remote, kind: Any, error: BaseException | None, trace: Any) -> Any:
    may_end = error is not None and ask("may_end", self, error)
    return await ask("leave", self, "__aexit__", *_told(error)) and may_end


def _told(error: BaseException | None) -> list[Any]:
    """What a context manager learns of an exception: its classes, and its message."""
    return [[kind.__name__ for kind in type(error).__mro__], str(error)] if error else []


def _ordering(operation: str) -> Callable[..., Any]:
    def compare(self: Remote, other: Any) -> Any:
        return ask(operation, self, other) is True if isinstance(other, Remote) else NotImplemented

    return compare


def _length(self: Remote) -> Any:
    """The length that it claims, if there are as many items."""
    length, items = ask("len", self), ask("items", self) if hasattr(type(self), "__iter__") else None
    if items is not None and length != len(items) < MAX_ITEMS:
        _refuse(self, "length, which is not that of its items,")
    return length


def _contains(self: Remote, key: Any) -> bool:
    """Whether it claims to contain `key`, and not whatever it is asked for."""
    if ask("contains", self, key) is not True:
        return False
    if not isinstance(key, Remote):
        import os

        try:
            is_all = ask("probe", self, f"\0{os.urandom(8).hex()}") is True
        except Exception:  # noqa: BLE001 - it takes keys of its own kind alone
            return True
        if is_all:
            _refuse(self, "content, which is everything,")
    return True


def _fields(self: Remote) -> Any:
    """What `dataclasses` asks for."""
    import dataclasses

    made: Any = dataclasses.make_dataclass("Fields", list(ask("getattr", self, "__dataclass_fields__")))
    return made.__dataclass_fields__


def _asking(operation: str) -> Callable[..., Any]:
    return lambda self, *values, **named: ask(operation, self, *values, **named)


ABILITIES: dict[str, Any] = {
    **{f"__{name}__": _asking(name) for name in ("getitem", "setitem", "delitem", "next", "call", "enter", "aenter")},
    "__len__": _length,
    "__iter__": lambda self: self if hasattr(type(self), "__next__") else ask("iter", self),
    "__contains__": _contains,
    "__dataclass_fields__": property(_fields),
    "__exit__": _left,
    "__aexit__": _async_left,
    **{f"__{name}__": _refusing("number") for name in NUMBERS},
    **{f"__{name}__": _unary(name) for name in UNARY},
    **{f"__{name}__": _ordering(name) for name in ("lt", "le", "gt", "ge")},
    **{f"__{name}__": _arithmetic(name, reflected=False) for name in ARITHMETIC},
    **{f"__r{name}__": _arithmetic(name, reflected=True) for name in ARITHMETIC},
    **{f"__i{name}__": _arithmetic(f"i{name}", reflected=False) for name in ARITHMETIC},
}
"""Methods that a handle has when its original had them, so that `callable` and `len` say of it what they said there."""


def _getting(name: str) -> Callable[[Remote], Any]:
    return lambda self: ask("getattr", self, name)


def remote(handle: Handle, abilities: list[str]) -> Remote:
    """A handle of what has these `abilities`."""
    shown = {name: property(_getting(name)) for name in ("__doc__", "__dict__")}
    kind: type[Remote] = type(handle.name, (Remote,), shown | {ability: ABILITIES[ability] for ability in abilities})
    return kind(handle)
