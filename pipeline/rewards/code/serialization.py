"""Values between the candidate and the judge (`pipeline.rewards.code.guest`): plain data, and handles of what is none.

Invariants: decoding builds nothing but built-in types, containers, numbers and dates of the standard library, named
tuples, objects of the receiver's own classes, and handles; it runs no code that the sender chose, and whatever is
malformed is `Malformed`. A subclass arrives as the type of these that it derives from, an iterator of the tests' as
its items. So no method of a result (`__eq__` above all) reaches the judge; nor does what a `defaultdict` of the
candidate would make up for any key that a test asks for. Runs inside of the sandbox, where each import costs a start
its time: built-in modules alone, and what the program or the tests import themselves.

| a value that | arrives as |
|---|---|
| is a function of the tests | a function that calls it where it is |
| is an object of a class of the tests' | one of the program's class of that name, or a stand-in with its attributes |
| is an object, a class, a function or an iterator of the program's | a handle (`pipeline.rewards.code.remote`), or an
object of the tests' own class of that name |
| is a coroutine | one that has run already |
"""

from __future__ import annotations

import builtins
import itertools
import sys
from _collections import OrderedDict, defaultdict, deque  # type: ignore[import-not-found]

from pipeline.rewards.code.channel import Malformed, Unsendable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

MAX_ITEMS = 10_000  # taken of an iterator
ARITHMETIC = (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift"),
)
UNARY = ("neg", "pos", "invert")
NUMERIC = ("b", "i", "u", "f", "c", "S", "U")
"""Kinds of numpy's items that hold no objects."""
# Types of the standard library that have an exact text: name, module.
TEXTUAL = {"Decimal": "decimal", "Fraction": "fractions"} | dict.fromkeys(("datetime", "date", "time"), "datetime")
TEXTUAL |= {"PosixPath": "pathlib", "PurePosixPath": "pathlib", "UUID": "uuid"}
TEXTUAL |= dict.fromkeys(("IPv4Address", "IPv6Address"), "ipaddress")
FACTORIES: dict[str, type] = {kind.__name__: kind for kind in (int, float, complex, bool, str, list, tuple, set, dict)}
"""Of a `defaultdict` that a test gives to the candidate."""


class Unjudgeable(BaseException):
    """The test asks for what a result was that did not cross: it cannot be judged."""


def _counter(*parts: Any) -> Any:
    return _module("collections").Counter(_dict(*parts))


def _module(name: str) -> Any:
    return sys.modules.get(name) or __import__(name)


def _dict(*parts: Any) -> dict[Any, Any]:
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _text(name: str, text: Any) -> Any:
    kind = getattr(_module(TEXTUAL[name]), name)
    return getattr(kind, "fromisoformat", kind)(str(text))


def _named(name: str, fields: Any, *values: Any) -> Any:
    return _module("collections").namedtuple(name, [str(field) for field in fields])(*values)


def _array(kind: str, shape: Any, content: str) -> Any:
    """An array of numpy's, of plain items."""
    if kind[:1] not in "<>|=" or kind[1:2] not in NUMERIC:
        raise Malformed(f"an array of {kind} holds no plain items")
    return _module("numpy").frombuffer(bytearray.fromhex(content), kind).reshape(shape)


def _is_array(value: Any) -> bool:
    return any((kind.__module__, kind.__name__) == ("numpy", "ndarray") for kind in type(value).__mro__)


def _builtin(name: str) -> Any:
    if isinstance(found := getattr(builtins, str(name)), type):
        return found
    raise Malformed(f"{name} is no built-in type")


def _pairs(value: Any) -> Iterator[Any]:
    """Keys and values in turn."""
    return itertools.chain.from_iterable(value.items())


# Tag: a type, and the parts that a value of it is written as; of several that fit, the first one counts.
WRITERS: dict[str, tuple[type, Callable[[Any], Iterable[Any]]]] = {
    "list": (list, iter),
    "tuple": (tuple, iter),
    "set": (set, iter),
    "frozenset": (frozenset, iter),
    "OrderedDict": (OrderedDict, _pairs),
    "dict": (dict, _pairs),
    "complex": (complex, lambda value: (value.real, value.imag)),
    "bytes": (bytes, lambda value: [bytes(value).hex()]),
    "bytearray": (bytearray, lambda value: [bytes(value).hex()]),
    "range": (range, lambda value: (value.start, value.stop, value.step)),
    "slice": (slice, lambda value: (value.start, value.stop, value.step)),
    "deque": (deque, lambda value: (value.maxlen, *value)),
    "keys": (type({}.keys()), iter),
    "values": (type({}.values()), iter),
    "items": (type({}.items()), itertools.chain.from_iterable),
}
# Tag: what makes a value of the parts.
READERS: dict[str, Callable[..., Any]] = {
    "list": lambda *items: list(items),
    "tuple": lambda *items: items,
    "set": lambda *items: set(items),
    "frozenset": lambda *items: frozenset(items),
    "iterator": lambda *items: iter(items),
    "dict": _dict,
    "OrderedDict": lambda *parts: OrderedDict(_dict(*parts)),
    "Counter": _counter,
    "deque": lambda most, *items: deque(items, most),
    "keys": lambda *keys: dict.fromkeys(keys).keys(),
    "values": lambda *values: dict(enumerate(values)).values(),
    "items": lambda *parts: _dict(*parts).items(),
    "int": lambda digits: int(digits, 16),
    "complex": lambda real, imaginary: complex(float(real), float(imaginary)),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "range": range,
    "slice": slice,
    "text": _text,
    "timedelta": lambda *parts: _module("datetime").timedelta(*parts),
    "named": _named,
    "builtin": _builtin,
    "ndarray": _array,
}
MUTABLE = (list, dict, set, bytearray, deque)
MUTABLE_TAGS = {"list", "dict", "set", "bytearray", "deque", "OrderedDict", "Counter", "defaultdict"}


def state_of(value: Any) -> dict[str, Any]:
    """The attributes that `value` itself holds, by name."""
    slots = (vars(kind).get("__slots__", ()) for kind in type(value).__mro__)
    names = itertools.chain.from_iterable((slot,) if isinstance(slot, str) else slot for slot in slots)
    held = {name: object.__getattribute__(value, name) for name in names if name[:2] != "__" and hasattr(value, name)}
    return held | dict(getattr(value, "__dict__", {}))


def holding(made: Any, state: dict[str, Any]) -> Any:
    """`made`, an object without attributes, with those of `state`. Methods stay those of its class."""
    for name, value in state.items():
        if name[:2] != "__" and not callable(getattr(type(made), name, None)):
            object.__setattr__(made, name, value)
    return made


def become(old: Any, new: Any) -> None:
    """Make `old` what `new` is, in its place."""
    if isinstance(old, list | bytearray) and isinstance(new, list | bytearray):
        old[:] = new
    elif isinstance(old, dict | set) and isinstance(new, dict | set):
        old.clear()
        old.update(new)
    elif _is_array(old) and _is_array(new):
        old[...] = new
    elif hasattr(old, "extendleft"):
        old.clear()
        old.extend(new)
    elif type(old) is type(new):
        for key, value in state_of(new).items():
            object.__setattr__(old, key, value)


class Values:
    """How one side writes values and reads those of the other; both are told what they do with what is no plain data.

    `write(value)` gives the tag and the parts of such a value; `readers` make one of the parts of a tag, `raw_readers`
    of parts that nobody read yet.
    """

    def __init__(
        self,
        write: Callable[[Any], tuple[str, Iterable[Any]]],
        readers: dict[str, Callable[..., Any]],
        raw_readers: dict[str, Callable[..., Any]],
        *,
        writes_factories: bool,
    ) -> None:
        self._write = write
        self._readers, self._raw_readers = READERS | readers, raw_readers
        self._writes_factories = writes_factories
        self._written: dict[int, tuple[int, Any]] = {}  # by identity: its number, and the value, lest it be freed
        self._read: list[Any] = []

    def write(self, values: Iterable[Any], known: Iterable[Any] = ()) -> tuple[list[Any], list[Any]]:
        """What `encode` makes of `values` of one message, and what of them can change, in order. One that comes again,
        or is one of `known`, is written as its number: lists that are the same one stay that."""
        outer, self._written = self._written, {id(value): (number, value) for number, value in enumerate(known)}
        try:
            nodes = [self.encode(value) for value in values]
            return nodes, [value for _, value in self._written.values()]
        finally:
            self._written = outer

    def read(self, nodes: Iterable[Any], known: Iterable[Any] = ()) -> tuple[list[Any], list[Any]]:
        """The values that `write` wrote, and what of them can change."""
        outer, self._read = self._read, list(known)
        try:
            return [self.decode(node) for node in nodes], self._read
        finally:
            self._read = outer

    def write_one(self, value: Any, known: Iterable[Any] = ()) -> Any:
        """What `write` makes of a message of one value."""
        return self.write([value], known)[0][0]

    def read_one(self, node: Any, known: Iterable[Any] = ()) -> Any:
        """The value of a message of one."""
        return self.read([node], known)[0][0]

    def encode(self, value: Any) -> Any:
        """`value` as JSON can hold it."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int):
            value = int(value)
            return value if -(2**63) <= value < 2**63 else ["int", hex(value)]  # decimal digits are quadratic
        if isinstance(value, float):
            return float(value)
        if (
            type(value).__module__ == "numpy"
            and hasattr(value, "dtype")
            and value.dtype.kind in "biufc"
            and not value.shape
        ):
            return self.encode(value.item())  # a scalar
        if isinstance(value, MUTABLE):
            if id(value) in self._written:
                return ["again", self._written[id(value)][0]]
            self._written[id(value)] = len(self._written), value
        tag, parts = self._taken_apart(value)
        return [tag, *(self.encode(part) for part in parts)]

    def _taken_apart(self, value: Any) -> tuple[str, Iterable[Any]]:
        """The tag and the parts of a value that JSON has no type for."""
        if isinstance(value, defaultdict):
            return "defaultdict", (self._factory(value.default_factory), *_pairs(value))
        if isinstance(value, dict) and any(kind.__name__ == "Counter" for kind in type(value).__mro__):
            return "Counter", _pairs(value)
        if isinstance(value, tuple) and (fields := getattr(type(value), "_fields", None)):
            return "named", (type(value).__name__, list(fields), *value)
        for tag, (kind, parts_of) in WRITERS.items():
            if isinstance(value, kind):
                return tag, parts_of(value)
        if isinstance(value, type) and vars(builtins).get(value.__name__) is value:
            return "builtin", (value.__name__,)  # type: ignore[union-attr]
        if _is_array(value) and value.dtype.kind in NUMERIC:
            return "ndarray", (value.dtype.str, list(value.shape), value.tobytes().hex())
        name = type(value).__name__
        if name in TEXTUAL and type(value).__module__ == TEXTUAL[name]:
            return "text", (name, str(value))
        if name == "timedelta" and type(value).__module__ == "datetime":
            return name, (value.days, value.seconds, value.microseconds)
        return self._write(value)

    def _factory(self, factory: Any) -> str | None:
        """The factory of a default is told by name to the candidate, and never by it."""
        if not self._writes_factories or factory is None:
            return None
        for name, kind in FACTORIES.items():
            if kind is factory:
                return name
        raise Unsendable("a defaultdict with a factory of its own cannot be given to the candidate")

    def decode(self, node: Any) -> Any:
        """The value that `encode` wrote. Raises Malformed for anything that it does not write."""
        if node is None or isinstance(node, bool | int | float | str):
            return node
        try:
            tag, *parts = node
            if tag == "again" and (again := self._read[parts[0]]) is not None:
                return again
            if tag in MUTABLE_TAGS:
                place = len(self._read)
                self._read.append(None)
                self._read[place] = made = self._mutable(tag, parts)
                return made
            if tag in self._readers:
                return self._readers[tag](*map(self.decode, parts))
            if tag in self._raw_readers:
                return self._raw_readers[tag](*parts)
        except Exception as error:  # noqa: BLE001 - hostile data may fail in any way
            raise Malformed(f"{type(error).__name__} in a value of the candidate") from None
        raise Malformed("a value of the candidate is of no known kind")

    def _mutable(self, tag: str, parts: list[Any]) -> Any:
        if tag == "defaultdict":  # the judge writes factories and reads none
            factory = None if self._writes_factories else FACTORIES.get(parts[0])
            return defaultdict(factory, _dict(*map(self.decode, parts[1:])))
        return self._readers[tag](*map(self.decode, parts))


def taken(value: Any) -> list[Any]:
    """The first items of an iterable."""
    return list(itertools.islice(value, MAX_ITEMS))
