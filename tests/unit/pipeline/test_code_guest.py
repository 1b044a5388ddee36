"""The data between candidate and judge, and the filter of system calls: without a process."""

import datetime
import errno
import json
import math
import struct
from collections import Counter, OrderedDict, deque, namedtuple
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from pipeline.code_guest import Foreign, Malformed, Unsendable, decode, encode, raised
from pipeline.syscall_filter import ALLOW, AT_LEAST, EQUAL, ERRNO, KILL, LOAD, MACHINES, REFUSED, RETURN, syscall_filter

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
        frozenset({1}), range(1, 9, 2), Decimal("1.50"), Fraction(1, 3), datetime.date(2020, 1, 2), {(1, 2): None},
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
    assert through(OrderedDict(a=1)) == {"a": 1}
    assert through(Pair(1, 2)) == (1, 2)
    assert math.isnan(through(math.nan))


def test_what_is_no_data_equals_nothing() -> None:
    class Always:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    assert through(Always()) != Always
    assert isinstance(through(Always()), Foreign)
    assert through(deque([1])) != [1]
    assert list(through(deque([1]))) == [1]
    assert next(through(iter([7]))) == 7
    assert isinstance(through(x for x in (1, 2)), Iterator)
    with pytest.raises(Unsendable):
        encode(lambda: 0, foreign=False)


@pytest.mark.parametrize(
    "node",
    [
        {}, [], ["list", []], ["dict", 1], ["dict", ["list"], 1], ["int", "x"], ["int"], ["text", "eval", "1"], ["text", "Decimal", "x"],
        ["foreign"], ["range", 1, 2, 0], ["bytes", 3], [["list"]], ["complex", "x"],
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
    column, code = MACHINES[machine]
    program = syscall_filter(machine)
    assert program is not None
    refused = {row[column]: name for name, row in REFUSED.items() if row[column] is not None}
    for number in range(600):
        expected = ALLOW if number not in refused else ERRNO | errno.EPERM
        if refused.get(number) == "clone3":
            expected = ERRNO | errno.ENOSYS
        assert outcome(program, number, code) == expected, number
    assert outcome(program, 0, 0) == outcome(program, 0x40000000 + 57, code) == KILL
    assert syscall_filter("pdp11") is None
