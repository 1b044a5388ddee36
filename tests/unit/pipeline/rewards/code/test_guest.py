"""The data between candidate and judge, and the filter of system calls: without a process."""

import datetime
import errno
import json
import math
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from pipeline.rewards.code.channel import Malformed, Unsendable, dumps, loads, raised
from pipeline.rewards.code.judge import Tests
from pipeline.rewards.code.seccomp import (
    ALLOW,
    AT_LEAST,
    EQUAL,
    ERRNO,
    FCNTL,
    FCNTL_REFUSED,
    KILL,
    LOAD,
    MACHINE_AT,
    MACHINES,
    NUMBER_AT,
    RETURN,
    SECOND_AT,
    refused_calls,
    syscall_filter,
)
from pipeline.rewards.code.serialization import Values

Pair = namedtuple("Pair", "a b")


class Evil(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


def no_data(value: Any) -> Any:
    raise Unsendable(type(value).__name__)


CANDIDATE = Values(no_data, {}, {}, writes_factories=False)
JUDGE = Values(no_data, {}, {}, writes_factories=True)


def through(value: Any) -> Any:
    """As a result of the candidate's arrives at the judge."""
    return JUDGE.decode(loads(dumps(CANDIDATE.encode(value))))


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


def test_what_is_no_data_does_not_cross_as_data() -> None:
    for value in (object(), lambda: 0, Evil, iter([7])):
        with pytest.raises(Unsendable):
            CANDIDATE.encode(value)
    assert through(int) is int


def test_a_default_of_the_candidates_stays_behind_and_one_of_the_tests_arrives() -> None:
    given: Any = defaultdict(list, {1: [2]})
    with pytest.raises(KeyError):
        through(given)["any"]
    assert CANDIDATE.decode(loads(dumps(JUDGE.encode(given))))["any"] == []
    assert JUDGE.decode(["defaultdict", "int"]).default_factory is None
    with pytest.raises(Unsendable):
        JUDGE.encode(defaultdict(lambda: 1))


class Candidate:
    """A channel to a candidate that answers with `replies`, whatever it is asked."""

    def __init__(self, *replies: Any) -> None:
        self._replies = list(replies)
        self.asked: list[Any] = []

    def send(self, message: Any) -> None:
        self.asked.append(message)

    def receive(self) -> Any:
        return self._replies.pop(0)


def judging(candidate: Candidate) -> Any:
    """What is under test, as the tests have it."""
    return Tests(candidate).under_test  # type: ignore[arg-type]


def a_handle(*replies: Any, abilities: tuple[str, ...] = ()) -> Any:
    handle = ["returned", ["remote", 1, "Thing", ["list", *abilities]]]
    return judging(Candidate(handle, *replies))()


@pytest.mark.parametrize("other", [7, "7", None, [7], True, 7.0])
def test_a_handle_equals_no_data_whatever_the_candidate_says(other: Any) -> None:
    assert a_handle() != other
    assert other != a_handle()


def test_two_handles_are_equal_when_the_candidate_says_so_and_their_states_agree() -> None:
    other = ["returned", ["remote", 2, "Thing", ["list"]]]
    for same, state, expected in ((True, {"x": 1}, True), (False, {"x": 1}, False)):
        under_test = judging(
            Candidate(["returned", ["remote", 1, "Thing", ["list"]]], other, *replies(same, {"x": 1}, state))
        )
        assert (under_test() == under_test()) is expected
    for state in ({"x": 2}, {}):
        under_test = judging(
            Candidate(["returned", ["remote", 1, "Thing", ["list"]]], other, *replies(True, {"x": 1}, state))
        )
        with pytest.raises(BaseException, match="equality by a rule of its own"):
            _ = under_test() == under_test()


def replies(*values: Any) -> list[Any]:
    return [["returned", CANDIDATE.encode(value)] for value in values]


def test_a_handle_has_the_methods_of_its_original_alone() -> None:
    thing = a_handle(*replies(2, [1, 2]), abilities=("__len__", "__iter__"))
    assert len(thing) == 2
    assert not callable(thing)
    with pytest.raises(TypeError):
        thing[0]
    with pytest.raises(BaseException, match="length, which is not that of its items"):
        len(a_handle(*replies(9, [1, 2]), abilities=("__len__", "__iter__")))
    with pytest.raises(BaseException, match="number of a Thing"):
        abs(a_handle(abilities=("__abs__",)))
    with pytest.raises(BaseException, match="sub with plain data of a Thing"):
        a_handle(*replies(0), abilities=("__sub__",)) - 7


@pytest.mark.parametrize(
    "reply",
    [{}, [], ["returned"], ["returned", 1, 2], ["raised", "x", ""], ["callback", 0, []], ["callback", "x", []], 7, ["remote", 1]],
    ids=str,
)  # fmt: skip
def test_a_reply_that_is_none_is_refused(reply: Any) -> None:
    with pytest.raises(Malformed):
        judging(Candidate(reply))()


@pytest.mark.parametrize(
    "node",
    [
        {}, [], ["list", []], ["dict", 1], ["dict", ["list"], 1], ["int", "x"], ["int"], ["text", "eval", "1"], ["text", "Decimal", "x"],
        ["foreign"], ["remote", 1, "A", []], ["builtin", "eval"], ["builtin", 1], ["named", "a b", ["x"], 1], ["named", "A", 1], ["deque"], ["deque", -1],
        ["deque", "x", 1], ["Counter", 1], ["OrderedDict", ["list"], 1], ["keys", ["list"]], ["items", 1],
        ["bytearray", "x"], ["range", 1, 2, 0], ["bytes", 3], [["list"]], ["complex", "x"],
    ],
    ids=str,
)  # fmt: skip
def test_malformed_data_is_refused(node: Any) -> None:
    with pytest.raises(Malformed):
        JUDGE.decode(node)


def test_exceptions_arrive_as_the_nearest_built_in() -> None:
    assert type(raised(["KeyError", "LookupError"], "x")) is KeyError
    assert type(raised(["UnicodeDecodeError", "ValueError"], "x")) is ValueError
    assert type(raised(["SystemExit", "eval", "object"], "x")) is Exception


@pytest.mark.parametrize("value", [None, True, 1, -1.5, math.inf, 'ü\ud800"', [1, [2, "x"]], {"a": [None]}, [], {}])
def test_frames_are_written_as_json_writes_them(value: Any) -> None:
    assert dumps(value) == json.dumps(value).encode()
    assert loads(dumps(value)) == json.loads(json.dumps(value))


@pytest.mark.parametrize("content", [b"", b"{", b"1 2", b"[1,]", b"\xff", b"[" * 100_000, b"nul", b"{1: 2}"], ids=repr)
def test_a_frame_that_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(Malformed):
        loads(content)


def outcome(program: bytes, number: int, code: int, second: int = 0) -> int:
    """What the seccomp program answers for system call `number` on machine `code`, with that second argument."""
    instructions = list(struct.iter_unpack("=HBBI", program))
    value, at = 0, 0
    while True:
        kind, if_true, if_false, constant = instructions[at]
        if kind == RETURN:
            return int(constant)
        if kind == LOAD:
            value, jump = {NUMBER_AT: number, MACHINE_AT: code, SECOND_AT: second}[constant], 0
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
    for command in range(1100):
        expected = ERRNO | errno.EPERM if command in FCNTL_REFUSED else ALLOW
        assert outcome(program, FCNTL[machine], code, command) == expected, command
    assert outcome(program, 0, 0) == outcome(program, 0x40000000 + 57, code) == KILL
    assert syscall_filter("pdp11") is None
