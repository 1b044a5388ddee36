"""Results and arguments as plain data, between the candidate and the judge (`pipeline.rewards.code.guest`).

The decoder builds nothing but built-in types, containers, numbers and dates of the standard library, and `Foreign`; it runs
no code that the candidate chose, and whatever is malformed is `Malformed`. A subclass arrives as the type of these that it
derives from, an iterator as its items, anything else as a `Foreign`, which equals nothing, and of which a test that asks for
more cannot judge. So no method of a result (`__eq__` above all) reaches the judge; nor does what a `defaultdict` of the
candidate would make up for any key that a test asks for. Runs inside of the sandbox: the standard library alone.
"""

from __future__ import annotations

import collections
import importlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

MAX_ITEMS = 10_000  # taken of an iterator
# Types of the standard library that have an exact text: name → (module, how to write one, how to read one).
TEXTUAL: dict[str, tuple[str, str, str]] = {
    "Decimal": ("decimal", "__str__", "__call__"),
    "Fraction": ("fractions", "__str__", "__call__"),
    "datetime": ("datetime", "isoformat", "fromisoformat"),
    "date": ("datetime", "isoformat", "fromisoformat"),
    "time": ("datetime", "isoformat", "fromisoformat"),
}
SEQUENCES: dict[str, Callable[[Iterable[Any]], Any]] = {
    "list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "iterator": iter,
}  # fmt: skip


FACTORIES: dict[str, type] = {kind.__name__: kind for kind in (int, float, complex, bool, str, list, tuple, set, dict)}
"""Of a `defaultdict` that a test gives to the candidate."""
VIEWS: dict[str, Any] = {"keys": type({}.keys()), "values": type({}.values()), "items": type({}.items())}


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

    def _length(self) -> int:
        return self._refuse("length") if self._items is None else len(self._items)

    def _iterator(self) -> Iterator[Any]:
        return self._refuse("items") if self._items is None else iter(self._items)


ABILITIES: dict[str, Callable[..., Any]] = {
    "__iter__": Foreign._iterator,
    "__len__": Foreign._length,
    "__getitem__": lambda self, key: self._refuse("items by key"),
    "__call__": lambda self, *arguments, **named: self._refuse("result when called"),
}
"""Methods that a `Foreign` has when its original had them, so that `callable` and `len` say of it what they said there."""


def foreign_of(name: str, truth: bool, abilities: list[str], items: list[Any] | None) -> Foreign:
    methods = {ability: ABILITIES[ability] for ability in abilities}
    kind: type[Foreign] = type("Foreign", (Foreign,), methods)
    return kind(name, truth, items)


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
    if isinstance(value, complex):
        return ["complex", value.real, value.imag]
    if isinstance(value, bytes):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, range):
        return ["range", *(encode(part, foreign=foreign) for part in (value.start, value.stop, value.step))]
    if isinstance(value, bytearray):
        return ["bytearray", bytes(value).hex()]
    if isinstance(value, dict):
        return [
            *_kind_of_dict(value, foreign),
            *(encode(part, foreign=foreign) for item in value.items() for part in item),
        ]
    if isinstance(value, collections.deque):
        return ["deque", value.maxlen, *(encode(item, foreign=foreign) for item in value)]
    for name, view in VIEWS.items():
        if isinstance(value, view):
            parts = itertools.chain.from_iterable(value) if name == "items" else value
            return [name, *(encode(part, foreign=foreign) for part in parts)]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, *(encode(item, foreign=foreign) for item in value)]
    name = type(value).__name__
    if name in TEXTUAL and type(value).__module__ == TEXTUAL[name][0]:
        return ["text", name, getattr(value, TEXTUAL[name][1])()]
    if not foreign:
        raise Unsendable(f"a {name} cannot be given to the candidate")
    if hasattr(value, "__next__"):
        return ["iterator", *(encode(item, foreign=True) for item in itertools.islice(value, MAX_ITEMS))]
    # By the classes themselves: a metaclass has methods of its own.
    abilities = [ability for ability in ABILITIES if any(ability in vars(kind) for kind in type(value).__mro__)]
    items = None
    if "__iter__" in abilities and not isinstance(value, type):
        items = ["list", *(encode(item, foreign=True) for item in itertools.islice(value, MAX_ITEMS))]
    return ["foreign", name, bool(value), abilities, items]


def _kind_of_dict(value: dict[Any, Any], foreign: bool) -> list[Any]:
    """The tag of a dict's kind. The factory of a default is told by name to the candidate, and never by it."""
    if isinstance(value, collections.defaultdict):
        factory = value.default_factory
        name = next((name for name, kind in FACTORIES.items() if kind is factory), None)
        if name is None and factory is not None and not foreign:
            raise Unsendable("a defaultdict with a factory of its own cannot be given to the candidate")
        return ["defaultdict", None if foreign else name]
    for kind in (collections.Counter, collections.OrderedDict):
        if isinstance(value, kind):
            return [kind.__name__]
    return ["dict"]


def _pairs(parts: list[Any], trusted: bool) -> dict[Any, Any]:
    values = [decode(part, trusted=trusted) for part in parts]
    return dict(zip(values[::2], values[1::2], strict=True))


def decode(node: Any, *, trusted: bool = False) -> Any:
    """The value that `encode` wrote. Raises Malformed for anything that it does not write. Only what the tests wrote is
    `trusted`, which makes a difference to the factory of a `defaultdict` alone."""
    if node is None or isinstance(node, bool | int | float | str):
        return node
    try:
        tag, *parts = node
        if tag in SEQUENCES:
            return SEQUENCES[tag]([decode(part, trusted=trusted) for part in parts])
        if tag == "dict":
            return _pairs(parts, trusted)
        if tag == "OrderedDict":
            return collections.OrderedDict(_pairs(parts, trusted))
        if tag == "Counter":
            return collections.Counter(_pairs(parts, trusted))
        if tag == "defaultdict":
            factory, *pairs = parts
            return collections.defaultdict(FACTORIES.get(factory) if trusted else None, _pairs(pairs, trusted))
        if tag == "deque":
            most, *items = parts
            return collections.deque([decode(item, trusted=trusted) for item in items], most)
        if tag == "keys":
            return dict.fromkeys(decode(part, trusted=trusted) for part in parts).keys()
        if tag == "values":
            return dict(enumerate(decode(part, trusted=trusted) for part in parts)).values()
        if tag == "items":
            return _pairs(parts, trusted).items()
        if tag == "int":
            return int(parts[0], 16)
        if tag == "complex":
            return complex(*map(float, parts))
        if tag == "bytes":
            return bytes.fromhex(parts[0])
        if tag == "bytearray":
            return bytearray.fromhex(parts[0])
        if tag == "range":
            return range(*(decode(part) for part in parts))
        if tag == "text":
            module, _, read = TEXTUAL[parts[0]]
            kind = getattr(importlib.import_module(module), parts[0])
            return kind(str(parts[1])) if read == "__call__" else getattr(kind, read)(str(parts[1]))
        if tag == "foreign":
            name, truth, abilities, items = parts
            return foreign_of(str(name), truth is True, abilities, None if items is None else list(decode(items)))
    except Exception as error:  # noqa: BLE001 - hostile data may fail in any way
        raise Malformed(f"{type(error).__name__} in a value of the candidate") from None
    raise Malformed("a value of the candidate is of no known kind")
