"""Results and arguments as plain data, between the candidate and the judge (`pipeline.rewards.code.guest`).

The decoder builds nothing but built-in types, containers, numbers and dates of the standard library, and `Foreign`; it
runs no code that the candidate chose, and whatever is malformed is `Malformed`. A subclass arrives as the type of these
that it derives from, an iterator as its items, anything else as a `Foreign`, which equals nothing, and of which a test
that asks for more cannot judge. So no method of a result (`__eq__` above all) reaches the judge; nor does what a
`defaultdict` of the candidate would make up for any key that a test asks for. Runs inside of the sandbox: the standard
library alone.
"""

from __future__ import annotations

import collections
import importlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

MAX_ITEMS = 10_000  # taken of an iterator
# Types of the standard library that have an exact text: name, module.
TEXTUAL = {"Decimal": "decimal", "Fraction": "fractions"} | dict.fromkeys(("datetime", "date", "time"), "datetime")
FACTORIES: dict[str, type] = {kind.__name__: kind for kind in (int, float, complex, bool, str, list, tuple, set, dict)}
"""Of a `defaultdict` that a test gives to the candidate."""


class Unsendable(BaseException):
    """The test gives the candidate what cannot be written as data: the test cannot be judged."""


class Unjudgeable(BaseException):
    """The test asks for what a result was that did not cross: it cannot be judged."""


class Malformed(BaseException):
    """What came from the candidate is no value."""


class Foreign:
    """A result that is no plain data: true or false as the original was, with its items if it had any, equal to
    nothing. Whatever else a test wants of it is `Unjudgeable`, and remembered, should the test swallow that."""

    refusal: Unjudgeable | None = None

    def __init__(self, name: str, truth: bool, items: list[Any] | None) -> None:
        self._name, self._truth, self._items = name, truth, items

    def __bool__(self) -> bool:
        return self._truth

    def __repr__(self) -> str:
        return f"<{self._name} from the candidate>"

    def __getattr__(self, name: str) -> Any:
        return self._refuse(f"attribute {name!r}")

    def _refuse(self, what: str, *_: Any, **__: Any) -> NoReturn:
        refusal = Unjudgeable(f"the tests ask for the {what} of a {self._name}, which stays in the candidate's sandbox")
        Foreign.refusal = Foreign.refusal or refusal
        raise refusal


ABILITIES: dict[str, Callable[..., Any]] = {
    "__iter__": lambda self: self._refuse("items") if self._items is None else iter(self._items),
    "__len__": lambda self: self._refuse("length") if self._items is None else len(self._items),
    "__getitem__": lambda self, key: self._refuse("items by key"),
    "__call__": lambda self, *arguments, **named: self._refuse("result when called"),
}
"""Methods that a `Foreign` has when its original had them, so that `callable` and `len` say of it what they said
there."""


def _foreign(name: Any, truth: Any, abilities: list[str], items: Any) -> Foreign:
    methods = {ability: ABILITIES[ability] for ability in abilities}
    kind: type[Foreign] = type("Foreign", (Foreign,), methods)
    return kind(str(name), truth is True, None if items is None else list(items))


def _dict(*parts: Any) -> dict[Any, Any]:
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _text(name: str, text: Any) -> Any:
    kind = getattr(importlib.import_module(TEXTUAL[name]), name)
    return getattr(kind, "fromisoformat", kind)(str(text))


def _pairs(value: Any) -> Iterator[Any]:
    """Keys and values in turn."""
    return itertools.chain.from_iterable(value.items())


# Tag: a type, and the parts that a value of it is written as; of several that fit, the first one counts.
WRITERS: dict[str, tuple[type, Callable[[Any], Iterable[Any]]]] = {
    "list": (list, iter),
    "tuple": (tuple, iter),
    "set": (set, iter),
    "frozenset": (frozenset, iter),
    "Counter": (collections.Counter, _pairs),
    "OrderedDict": (collections.OrderedDict, _pairs),
    "dict": (dict, _pairs),
    "complex": (complex, lambda value: (value.real, value.imag)),
    "bytes": (bytes, lambda value: [bytes(value).hex()]),
    "bytearray": (bytearray, lambda value: [bytes(value).hex()]),
    "range": (range, lambda value: (value.start, value.stop, value.step)),
    "deque": (collections.deque, lambda value: (value.maxlen, *value)),
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
    "OrderedDict": lambda *parts: collections.OrderedDict(_dict(*parts)),
    "Counter": lambda *parts: collections.Counter(_dict(*parts)),
    "defaultdict": lambda factory, *parts: collections.defaultdict(FACTORIES.get(factory), _dict(*parts)),
    "deque": lambda most, *items: collections.deque(items, most),
    "keys": lambda *keys: dict.fromkeys(keys).keys(),
    "values": lambda *values: dict(enumerate(values)).values(),
    "items": lambda *parts: _dict(*parts).items(),
    "int": lambda digits: int(digits, 16),
    "complex": lambda real, imaginary: complex(float(real), float(imaginary)),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "range": range,
    "text": _text,
    "foreign": _foreign,
}


def encode(value: Any, *, foreign: bool) -> Any:
    """`value` as JSON can hold it. What is no plain data is described if `foreign`, else Unsendable is raised."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        value = int(value)
        return value if -(2**63) <= value < 2**63 else ["int", hex(value)]  # decimal digits are quadratic, and limited
    if isinstance(value, float):
        return float(value)
    tag, parts = _taken_apart(value, foreign)
    return [tag, *(encode(part, foreign=foreign) for part in parts)]


def _taken_apart(value: Any, foreign: bool) -> tuple[str, Iterable[Any]]:
    """The tag and the parts of a value that JSON has no type for."""
    if isinstance(value, collections.defaultdict):
        return "defaultdict", (_factory(value.default_factory, foreign), *_pairs(value))
    for tag, (kind, parts_of) in WRITERS.items():
        if isinstance(value, kind):
            return tag, parts_of(value)
    name = type(value).__name__
    if name in TEXTUAL and type(value).__module__ == TEXTUAL[name]:
        return "text", (name, str(value))
    if not foreign:
        raise Unsendable(f"a {name} cannot be given to the candidate")
    if hasattr(value, "__next__"):
        return "iterator", itertools.islice(value, MAX_ITEMS)
    # By the classes themselves: a metaclass has methods of its own.
    abilities = [ability for ability in ABILITIES if any(ability in vars(kind) for kind in type(value).__mro__)]
    is_iterable = "__iter__" in abilities and not isinstance(value, type)
    items = list(itertools.islice(value, MAX_ITEMS)) if is_iterable else None
    return "foreign", (name, bool(value), abilities, items)


def _factory(factory: Any, foreign: bool) -> str | None:
    """The factory of a default is told by name to the candidate, and never by it."""
    if foreign or factory is None:
        return None
    for name, kind in FACTORIES.items():
        if kind is factory:
            return name
    raise Unsendable("a defaultdict with a factory of its own cannot be given to the candidate")


def decode(node: Any, *, trusted: bool = False) -> Any:
    """The value that `encode` wrote. Raises Malformed for anything that it does not write. Only what the tests wrote is
    `trusted`, which makes a difference to the factory of a `defaultdict` alone."""
    if node is None or isinstance(node, bool | int | float | str):
        return node
    try:
        tag, *parts = node
        if tag == "defaultdict" and not trusted:
            parts[0] = None
        if tag in READERS:
            return READERS[tag](*(decode(part, trusted=trusted) for part in parts))
    except Exception as error:  # noqa: BLE001 - hostile data may fail in any way
        raise Malformed(f"{type(error).__name__} in a value of the candidate") from None
    raise Malformed("a value of the candidate is of no known kind")
