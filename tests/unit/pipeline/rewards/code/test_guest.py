"""The data between candidate and judge, and the filter of system calls: without a process."""

import datetime
import errno
import json
import math
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

import pytest

from pipeline.rewards.code.guest import raised
from pipeline.rewards.code.seccomp import (
    ALLOW,
    AT_LEAST,
    EQUAL,
    ERRNO,
    KILL,
    LOAD,
    MACHINES,
    RETURN,
    refused_calls,
    syscall_filter,
)
from pipeline.rewards.code.serialization import Foreign, Malformed, Unjudgeable, Unsendable, decode, encode

Pair = namedtuple("Pair", "a b")


class Evil(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


def through(value: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value, foreign=True))))


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1, 2**63, -(10**5000), 0.1, math.inf, "ü\ud800", b"\x00\xff", 1j, [], [[1], (2, {3})], {"a": {1: (2,)}},
        frozenset({1}), bytearray(b"\x00\xff"), deque([1, [2]]), deque([1], 3), Counter("aab"), OrderedDict(b=1, a=2), {"a": 1}.keys(),
        {1: {2}}.items(), defaultdict(None, {1: [2]}), range(1, 9, 2), Decimal("1.50"), Fraction(1, 3), datetime.date(2020, 1, 2),
        {(1, 2): None},
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_plain_data_crosses_unchanged(value: Any) -> None:
    assert through(value) == value
    assert type(through(value)) is type(value)


def test_a_subclass_loses_what_it_overrides() -> None:
    assert through(Evil(3)) != 4
    assert type(through(Evil(3))) is int
    assert through(Counter("aa")) == {"a": 2}
    assert through(Counter("aab")).most_common(1) == [("a", 2)]
    assert through(OrderedDict(a=1, b=2)) != OrderedDict(b=2, a=1)
    assert list(through({1: 2}.values())) == [2]
    assert through(deque([1, 2], 2)).maxlen == 2
    assert through(Pair(1, 2)) == (1, 2)
    assert math.isnan(through(math.nan))


def test_what_is_no_data_equals_nothing() -> None:
    class Always:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    assert through(Always()) != Always
    assert isinstance(through(Always()), Foreign)
    assert next(through(iter([7]))) == 7
    assert isinstance(through(x for x in (1, 2)), Iterator)
    with pytest.raises(Unsendable):
        encode(lambda: 0, foreign=False)


def test_a_default_of_the_candidates_stays_behind_and_one_of_the_tests_arrives() -> None:
    given: Any = defaultdict(list, {1: [2]})
    with pytest.raises(KeyError):
        through(given)["any"]
    assert decode(json.loads(json.dumps(encode(given, foreign=False))), trusted=True)["any"] == []
    forged = ["defaultdict", "int"]
    assert decode(forged).default_factory is None
    with pytest.raises(Unsendable):
        encode(defaultdict(lambda: 1), foreign=False)


class Shelf:
    """Has items, a length and an attribute."""

    size = 2

    def __iter__(self) -> Iterator[int]:
        return iter((1, 2))

    def __len__(self) -> int:
        return 9


class Colour(Enum):
    RED = 1


def test_what_is_asked_of_a_foreign_result_beyond_its_items_is_no_verdict_on_it() -> None:
    shelf, colour, function = through(Shelf()), through(Colour.RED), through(lambda: 0)
    assert list(shelf) == [1, 2]
    assert len(shelf) == 2
    assert shelf != [1, 2]
    assert callable(function)
    assert not callable(shelf)
    for ask in (lambda: len(colour), lambda: iter(colour), lambda: colour[0], lambda: shelf[0], lambda: shelf()):
        with pytest.raises(TypeError):
            ask()
    for ask in (lambda: shelf.size, lambda: hasattr(colour, "value"), lambda: function(), lambda: colour.name):
        with pytest.raises(Unjudgeable, match="which stays in the candidate's sandbox"):
            ask()
        refusal, Foreign.refusal = Foreign.refusal, None
        assert refusal is not None


@pytest.mark.parametrize(
    "node",
    [
        {}, [], ["list", []], ["dict", 1], ["dict", ["list"], 1], ["int", "x"], ["int"], ["text", "eval", "1"], ["text", "Decimal", "x"],
        ["foreign"], ["foreign", "A", True, ["__del__"], None], ["foreign", "A", True, 1, None], ["deque"], ["deque", -1],
        ["deque", "x", 1], ["Counter", 1], ["OrderedDict", ["list"], 1], ["defaultdict"], ["keys", ["list"]], ["items", 1],
        ["bytearray", "x"], ["range", 1, 2, 0], ["bytes", 3], [["list"]], ["complex", "x"],
    ],
    ids=str,
)  # fmt: skip
def test_malformed_data_is_refused(node: Any) -> None:
    with pytest.raises(Malformed):
        decode(node)


def test_exceptions_arrive_as_the_nearest_built_in() -> None:
    assert type(raised(["KeyError", "LookupError"], "x")) is KeyError
    assert type(raised(["UnicodeDecodeError", "ValueError"], "x")) is ValueError
    assert type(raised(["SystemExit", "eval", "object"], "x")) is Exception


def outcome(program: bytes, number: int, code: int) -> int:
    """What the seccomp program answers for system call `number` on machine `code`."""
    instructions = list(struct.iter_unpack("=HBBI", program))
    value, at = 0, 0
    while True:
        kind, if_true, if_false, constant = instructions[at]
        if kind == RETURN:
            return int(constant)
        if kind == LOAD:
            value, jump = (number, code)[constant // 4], 0
        else:
            jump = if_true if {EQUAL: value == constant, AT_LEAST: value >= constant}[kind] else if_false
        at += 1 + jump


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_refuses_what_is_named_and_nothing_else(machine: str) -> None:
    code = MACHINES[machine]
    program = syscall_filter(machine)
    assert program is not None
    refused = {number: name for name, number in refused_calls(machine).items()}
    assert len(refused) > 60
    for number in range(600):
        expected = ALLOW if number not in refused else ERRNO | errno.EPERM
        if refused.get(number) == "clone3":
            expected = ERRNO | errno.ENOSYS
        assert outcome(program, number, code) == expected, number
    assert outcome(program, 0, 0) == outcome(program, 0x40000000 + 57, code) == KILL
    assert syscall_filter("pdp11") is None
