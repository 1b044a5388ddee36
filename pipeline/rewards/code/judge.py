"""The judge's side of the sandbox: runs the tests with a stand-in for what is under test, and says what came of it.

Invariants: a fault in a call is a fault of the program, whoever swallows it: what ends a program, no value, and an
exception that reached no handler of the tests' own (`call_sites`); an assertion that fails where nobody can hear it
(`__del__`, a function that the program calls) counts. Changes that a call made to its arguments reach the tests where
it returned nothing and that is not compared with them, nobody looks at what it returned, or the arguments are compared
with constants alone; else arguments are copies, so that no program can empty both sides of `f(xs) == sorted(xs)`; a
result that is an argument, unchanged, is that one. A context manager of the program's ends what the tests raise for it
to see, and nothing else."""

from __future__ import annotations

import builtins
import sys

from pipeline.rewards.code.attributes import Attributes
from pipeline.rewards.code.channel import MAX_REASON_CHARS, Channel, Malformed, Unsendable, compiled, described, raised
from pipeline.rewards.code.remote import Handle, Remote, handle_of, remote
from pipeline.rewards.code.serialization import (
    MAX_ITEMS,
    TEXTUAL,
    Unjudgeable,
    Values,
    become,
    holding,
    state_of,
    taken,
)
from pipeline.rewards.code.test_units import collected, described_function, global_names, parts_of_check, statements
from pipeline.rewards.code.threads import replace_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, NoReturn

    from pipeline.rewards.code.call_sites import CallSites

PROTOCOL = {"next": StopIteration, "getattr": AttributeError, "getitem": LookupError, "probe": Exception}
"""Exceptions that are answers, of what is no call."""

STANDARD = {name: module for name, module in TEXTUAL.items() if name[0].isupper()}
STANDARD |= {"Counter": "collections", "OrderedDict": "collections"}


class CandidateEnded(BaseException):
    """The candidate raised what ends a program."""


class MissingModule(BaseException):
    """The candidate imports what its sandbox lacks."""


BROKEN = (Unsendable, Unjudgeable, SyntaxError, NameError, ImportError)
"""Faults of the tests, unless the candidate raised them."""
FAULTS = (Unsendable, Unjudgeable, Malformed, CandidateEnded, MissingModule, RecursionError)
"""What a call notes at once."""


class Tests:
    """The tests of one problem, run against one program."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._num_calls = 0
        self._faults: list[BaseException] = []  # kept, should a test swallow them
        self._raised: list[BaseException] = []
        sys.modules["tests"] = type(sys)("tests")
        self._namespace: dict[str, Any] = vars(sys.modules["tests"])
        self._sources: dict[str, str] = {}
        self._found_sites: CallSites | None = None
        self._functions: list[Any] = []
        self._numbers: dict[int, int] = {}  # of functions, by identity
        self._written: dict[int, int] = {}
        self._rebuilt: dict[int, Any] = {}
        self._shared: dict[str, type] = {}
        readers: dict[str, Callable[..., Any]] = {"function": self._functions.__getitem__, "remote": self._remote}
        readers |= {"awaitable": self._awaited, "later": self._later}
        self._handles: dict[int, Remote] = {}
        self._stdout = sys.stdout
        self._values = Values(self._write, readers, {}, writes_factories=True)
        self._attributes = Attributes(self._values, self._exchanged)
        self.under_test: Any = remote(Handle(self._ask, 0, "program"), ["__call__"])

    def serve(self) -> None:
        task = self._channel.receive()
        sys.unraisablehook = lambda unraisable: self._note(unraisable.exc_value)
        passed = total = 0
        worst: tuple[str, str] | None = None
        try:
            for unit in self._units(task):
                num_calls = self._num_calls
                fault = self._fault_in(unit)
                if fault is None and self._num_calls == num_calls:
                    continue
                total, passed = total + 1, passed + (fault is None)
                if fault is not None and (worst is None or worst[0] == "failed"):
                    worst = self._said(fault)
                if worst and not (task["partial"] and worst[0] == "failed"):
                    break
        except BaseException as error:  # noqa: BLE001 - the tests cannot be prepared
            worst = self._said(error)
        if worst is None:
            worst = ("passed", "") if self._num_calls else ("error", "the tests never call the candidate")
        self._channel.send({"verdict": worst[0], "reason": worst[1], "share": passed / total if total else 0.0})

    def _fault_in(self, unit: Callable[[], Any]) -> BaseException | None:
        """What is wrong with a part of the tests; None where it passes."""
        self._faults.clear()
        self._raised.clear()
        try:
            unit()
        except BaseException as error:  # noqa: BLE001 - whatever a test raises is its verdict
            self._note(error)
        swallowed = (error for error in self._raised if not self._sites.catches(error))
        return next(iter(self._faults), None) or next(swallowed, None)

    def _note(self, fault: BaseException | None) -> None:
        if fault is not None:
            self._faults.append(fault)

    def _said(self, fault: BaseException) -> tuple[str, str]:
        if isinstance(fault, MissingModule):
            return "missing_module", str(fault)
        by_candidate = any(fault is error for error in self._raised)
        kind = "error" if isinstance(fault, BROKEN) and not by_candidate else "failed"
        said = str(fault) or self._sites.line_of(fault)
        return kind, f"{type(fault).__name__}: {said}"[:MAX_REASON_CHARS]

    # The tests.

    def _units(self, task: dict[str, Any]) -> Iterator[Callable[[], Any]]:
        setup, tests, names = task["setup"], task["tests"], self._namespace
        replace_threads(f"{setup} {tests}")
        self._sources = {"<setup>": setup, "<tests>": tests}
        if isinstance(found := self._ask("program"), Remote):
            self.under_test = found
        names[task["entry_point"]] = self.under_test
        module = type(sys)("solution")  # that tests may import from
        vars(module)["__getattr__"] = lambda name: self._imported(name, task["entry_point"])
        sys.modules["solution"] = module
        code = compiled(setup, "<setup>")
        self._bind_missing(code)
        exec(code, names)  # noqa: S102
        for found in list(names.values()):
            self._share(found)
        names[task["entry_point"]] = self.under_test
        code = compiled(tests, "<tests>")
        before = names.get("check")  # the candidate itself, or a helper of the setup
        self._bind_missing(code)
        if task["partial"]:
            yield from statements(tests, names)
        else:
            yield lambda: exec(code, names)  # noqa: S102
        if names.get("check") is not before:
            parts = parts_of_check(tests, names, self.under_test) if task["partial"] else None
            yield from parts or [lambda: names["check"](self.under_test)]
        elif not self._num_calls:
            yield from collected(names)

    @property
    def _sites(self) -> CallSites:
        if self._found_sites is None:
            from pipeline.rewards.code.call_sites import CallSites

            self._found_sites = CallSites(self._sources)
        return self._found_sites

    def _bind_missing(self, code: Any) -> None:
        """Give the tests what they name and do not have: what the standard library has of such names, and classes of
        the program's by names that are a class's."""
        names = set(global_names(code)) - self._namespace.keys() - vars(builtins).keys()
        for name in sorted(names & (sys.stdlib_module_names | STANDARD.keys())):
            try:
                module = __import__(STANDARD.get(name, name))
            except ImportError:  # not on this machine
                continue
            self._namespace[name] = getattr(module, name) if name in STANDARD else module
        wanted = sorted(names - STANDARD.keys() - sys.stdlib_module_names)
        self._namespace.update(self._of_program(*wanted) if wanted else {})

    def _imported(self, name: str, entry_point: str) -> Any:
        """What the tests import of the program by name."""
        if name[:2] == "__":
            raise AttributeError(name)
        known = self.under_test if name == entry_point else self._namespace.get(name)
        found = self._of_program(name) if known is None else {name: known}
        if name not in found:
            raise AttributeError(name)
        return found[name]

    def _of_program(self, *wanted: str) -> dict[str, Any]:
        """What the program has of these names."""
        has: dict[str, Any] = {}
        for name, found in self._ask("found", *wanted).items():
            if found and found[1]:
                base = next(vars(builtins)[each] for each in found[1] if each in vars(builtins))
                has[name] = type(name, (base,), {"__module__": "program"})
            elif found:
                has[name] = found[0]
        return has

    # Calls.

    def _ask(self, operation: str, *values: Any, **named: Any) -> Any:
        """What the candidate's side makes of an operation."""
        self._num_calls += operation not in ("program", "found")
        try:
            if operation == "refuse":
                raise Unjudgeable(values[1])
            if operation == "may_end":
                return self._may_end(values[1])
            self._attributes.send()
            self._written.clear()
            (*nodes, named_node), known = self._values.write([*values, named])
            reply = self._exchanged([operation, nodes, named_node])
            if sys.stdout is not self._stdout:  # the tests look at what is printed
                sys.stdout.write(str(self._exchanged(["printed", [], ["dict"]])[1]))
            self._rebuilt.clear()
            if reply[0] in ("returned", "changed"):
                result = self._values.read_one(reply[1], known if reply[0] == "returned" else ())
                if operation == "getattr":
                    self._attributes.keep(nodes, result)
                if reply[0] == "changed":
                    self._renew((*values, *named.values()), result)
                return result
            self._fail(operation, *reply[:3], *self._values.read(reply[3:])[0])
        except FAULTS as fault:
            if not any(fault is error for error in self._raised):
                self._note(fault)
            raise

    def _fail(self, operation: str, kind: Any, names: Any, message: Any, state: Any = ()) -> NoReturn:
        if kind == "missing":
            raise MissingModule(str(names[0]))
        if kind != "raised":
            raise CandidateEnded(f"{[names, message]}"[:MAX_REASON_CHARS])
        error = raised(names, str(message), self._exceptions())
        try:
            holding(error, dict(state))
        except (TypeError, ValueError, AttributeError):
            raise Malformed("an exception of the candidate has no such attributes") from None
        if not isinstance(error, PROTOCOL.get(operation, ())):
            self._raised.append(error)
        raise error

    def _may_end(self, error: BaseException) -> bool:
        """Whether a context manager of the program's may end `error`: not what went wrong in a test."""
        if not any(error is one for one in self._raised) and self._sites.raises(error):
            return True
        if isinstance(error, AssertionError):
            self._note(error)  # the program may raise something else
        return False

    def _exceptions(self) -> dict[str, Any]:
        return {name: kind for name, kind in self._namespace.items() if isinstance(kind, type)}

    def _exchanged(self, message: list[Any]) -> list[Any]:
        """The candidate's reply, after what it called of the tests' functions meanwhile."""
        while True:
            self._channel.send({"call": message})
            reply = self._channel.receive()
            kind, *parts = reply if isinstance(reply, list) and reply else (None,)
            if kind == "callback" and len(parts) == 2 and parts[0] in range(len(self._functions)):
                message = ["answer", *self._answer(*parts)]
            elif (kind in ("returned", "changed") and len(parts) == 1) or (
                len(parts) in (2, 3) and isinstance(parts[0], list) and (parts[0] or kind != "missing")
            ):
                return reply
            else:
                raise Malformed("the candidate's reply is no reply")

    def _answer(self, number: Any, node: Any) -> list[Any]:
        """What a function of the tests gives to the program that calls it."""
        try:
            arguments, named = self._values.read_one(node)
        except (TypeError, ValueError):
            raise Malformed("the candidate calls a function without arguments") from None
        try:
            return ["returned", self._values.write_one(self._functions[number](*arguments, **named))]
        except Exception as error:  # noqa: BLE001 - the program's to handle
            if isinstance(error, AssertionError):
                self._note(error)  # the program may swallow it
            return described(error)

    def _renew(self, values: tuple[Any, ...], result: Any) -> None:
        """Make the changes of a call to its arguments the tests', where these can be what it is for."""
        frame = sys._getframe(1)
        while frame.f_back and frame.f_globals.get("Remote") is Remote:
            frame = frame.f_back
        if not self._sites.looks_at_changes(frame, result):
            return
        changes = self._values.read_one(self._exchanged(["changes", [], ["dict"]])[1])
        try:
            for place, value in changes:
                become(values[place], value)
        except (TypeError, ValueError, LookupError):
            raise Malformed("the candidate's arguments changed into no values") from None

    # Values.

    def _write(self, value: Any) -> tuple[str, Iterable[Any]]:
        if isinstance(value, Remote):
            return "remote", (handle_of(value).number,)
        if hasattr(value, "__await__"):
            return "awaitable", (driven(value),)
        kind = type(value)
        if hasattr(kind, "__members__") and isinstance(kind.__members__.get(value.name), kind):
            self._share(kind)
            return "enum", (kind.__name__, value.name, value.value)
        if hasattr(value, "__next__") and kind.__module__ in ("builtins", "itertools"):
            items = taken(value)
            if len(items) == MAX_ITEMS:
                raise Unsendable(f"an iterator of {MAX_ITEMS} items or more cannot be given to the candidate")
            return "iterator", items
        if kind.__module__ == "tests" and not callable(value):
            return self._object(value)
        if callable(value):
            if (number := self._numbers.setdefault(id(value), len(self._functions))) == len(self._functions):
                self._functions.append(value)
            code = getattr(value, "__code__", None)
            is_coroutine = bool(code and code.co_flags & 0x80)
            return "function", (number, is_coroutine, *described_function(value, code))
        raise Unsendable(f"a {kind.__name__} cannot be given to the candidate")

    def _object(self, value: Any) -> tuple[str, Iterable[Any]]:
        if id(value) in self._written:
            return "same", (self._written[id(value)],)
        number = self._written[id(value)] = len(self._written)
        self._share(type(value))
        state = state_of(value)
        return "object", (type(value).__name__, number, *(part for pair in state.items() for part in pair))

    def _share(self, kind: Any) -> None:
        """Let results be of a class of the tests'. Only of those that the program was to know: a helper of the tests'
        may equal anything."""
        if isinstance(kind, type) and kind.__module__ == "tests":
            self._shared[kind.__name__] = kind

    def _remote(self, number: int, name: str, abilities: list[str]) -> Any:
        """A handle; of an object of a class that the tests have under its name, an object of theirs."""
        if number not in self._handles:
            self._handles[number] = remote(Handle(self._ask, int(number), str(name)), abilities)
        handle = self._handles[number]
        kind = self._shared.get(str(name))
        if kind is None:
            return handle
        if number in self._rebuilt:
            return self._rebuilt[number]
        if members := getattr(kind, "__members__", None):
            return members[self._inner("getattr", handle, "name")]
        made: Any = object.__new__(kind)
        self._rebuilt[number] = made
        return holding(made, self._inner("state", handle))

    def _inner(self, operation: str, handle: Remote, *values: Any) -> Any:
        """An operation while a value is read, whose objects are to be the same."""
        reply = self._exchanged([operation, self._values.write((handle, *values))[0], ["dict"]])
        if reply[0] != "returned":
            raise Malformed(f"a {handle_of(handle).name} of the candidate cannot be read")
        return self._values.read_one(reply[1])

    @staticmethod
    def _later(*items: Any) -> Any:
        async def each() -> Any:
            for item in items:
                yield item

        return each()

    def _awaited(self, kind: str, *parts: Any) -> Any:
        """A coroutine of the program's, which has run already."""

        async def wait() -> Any:
            if kind == "returned":
                return parts[0]
            try:
                self._fail("call", kind, *parts)
            except FAULTS as fault:
                self._note(fault)
                raise

        return wait()


def driven(coroutine: Any) -> Any:
    """What a coroutine of the tests gives, run here and now inside of whatever loop."""
    steps = coroutine.__await__()
    while True:
        try:
            if next(steps) is not None:
                raise Unjudgeable("an asynchronous function of the tests waits for what only its own loop gives")
        except StopIteration as end:
            return end.value
