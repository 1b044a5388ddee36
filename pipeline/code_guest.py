"""What runs inside the sandbox, as one of two roles in two separate sandboxes: the candidate (untrusted) or the judge.

`pipeline.code_judge` starts both from this file's text and carries frames between them. Only the standard library is
imported, and nothing of the project: the sandbox holds neither. A frame is four bytes of length and that many of JSON.

Values cross as plain data (`encode`, `decode`). The decoder builds nothing but built-in types, numbers and dates of the
standard library, and `Foreign`; it runs no code that the candidate chose, and whatever is malformed is `Malformed`. A
subclass arrives as the built-in that it derives from, an iterator as its items, anything else as a `Foreign`, which
equals nothing. So no method of a result (`__eq__` above all) reaches the judge.
"""

from __future__ import annotations

import builtins
import importlib
import io
import itertools
import json
import os
import resource
import struct
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

MAX_FRAME_BYTES = 4 << 20
MAX_ITEMS = 10_000  # taken of an iterator
MAX_REASON_CHARS = 300
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


class Unsendable(BaseException):
    """The test gives the candidate what cannot be written as data: the test cannot be judged."""


class Malformed(BaseException):
    """What came from the candidate is no value."""


class CandidateEnded(BaseException):
    """The candidate raised what ends a program."""


class Foreign:
    """A result that is no plain data: true or false as the original was, with its items if it had any, equal to
    nothing."""

    def __init__(self, name: str, truth: bool, items: list[Any] | None) -> None:
        self._name, self._truth, self._items = name, truth, items

    def __bool__(self) -> bool:
        return self._truth

    def __iter__(self) -> Iterator[Any]:
        if self._items is None:
            raise TypeError(f"{self._name!r} object is not iterable")
        return iter(self._items)

    def __repr__(self) -> str:
        return f"<{self._name} from the candidate>"


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
    if isinstance(value, dict):
        return ["dict", *(encode(part, foreign=foreign) for item in value.items() for part in item)]
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
    items = None
    if hasattr(type(value), "__iter__") and not isinstance(value, type):
        items = ["list", *(encode(item, foreign=True) for item in itertools.islice(value, MAX_ITEMS))]
    return ["foreign", name, bool(value), items]


def decode(node: Any) -> Any:
    """The value that `encode` wrote. Raises Malformed for anything that it does not write."""
    if node is None or isinstance(node, bool | int | float | str):
        return node
    try:
        tag, *parts = node
        if tag in SEQUENCES:
            return SEQUENCES[tag]([decode(part) for part in parts])
        if tag == "dict":
            values = [decode(part) for part in parts]
            return dict(zip(values[::2], values[1::2], strict=True))
        if tag == "int":
            return int(parts[0], 16)
        if tag == "complex":
            return complex(*map(float, parts))
        if tag == "bytes":
            return bytes.fromhex(parts[0])
        if tag == "range":
            return range(*(decode(part) for part in parts))
        if tag == "text":
            module, _, read = TEXTUAL[parts[0]]
            kind = getattr(importlib.import_module(module), parts[0])
            return kind(str(parts[1])) if read == "__call__" else getattr(kind, read)(str(parts[1]))
        if tag == "foreign":
            name, truth, items = parts
            return Foreign(str(name), truth is True, None if items is None else list(decode(items)))
    except Exception as error:  # noqa: BLE001 - hostile data may fail in any way
        raise Malformed(f"{type(error).__name__} in a value of the candidate") from None
    raise Malformed("a value of the candidate is of no known kind")


def describe(error: BaseException) -> list[Any]:
    """How an exception of the candidate is told: its built-in classes, nearest first, and its message."""
    names = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    try:
        message = str(error)[:MAX_REASON_CHARS]
    except Exception:  # noqa: BLE001 - the candidate's own __str__
        message = ""
    return ["raised" if isinstance(error, Exception) else "ended", names, message]


def raised(names: list[Any], message: str) -> Exception:
    """The nearest built-in exception of `names` that a message alone can make."""
    for name in names:
        kind = getattr(builtins, str(name), None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                return kind(message)
            except TypeError:
                continue
    return Exception(message)


class Nowhere(io.RawIOBase):
    """Takes what is written."""

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        return len(content)


class Channel:
    """Frames over what were standard input and output; these then lead nowhere, so that `print` disturbs nothing."""

    def __init__(self) -> None:
        self._source, self._sink = os.dup(0), os.dup(1)
        # No /dev/null: a device of the system's would be root's to change when root started the sandbox.
        for number, end in ((0, 0), (1, 1), (2, 1)):
            ends = os.pipe()
            os.dup2(ends[end], number)
            for each in ends:
                os.close(each)
        sys.stdin = io.TextIOWrapper(io.BytesIO())
        sys.stdout = sys.stderr = io.TextIOWrapper(io.BufferedWriter(Nowhere()))

    def receive(self) -> Any:
        """The next frame. Ends the process when there is none; raises Malformed if it is no JSON."""
        (length,) = struct.unpack(">I", self._exactly(4))
        content = self._exactly(length)
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise Malformed("what the candidate sent is no JSON") from None

    def send(self, message: Any) -> None:
        content = json.dumps(message).encode()
        if len(content) > MAX_FRAME_BYTES:
            raise Unsendable(f"more than {MAX_FRAME_BYTES >> 20} MiB")
        view = memoryview(struct.pack(">I", len(content)) + content)
        while view:
            view = view[os.write(self._sink, view) :]

    def _exactly(self, length: int) -> bytes:
        content = bytearray()
        while len(content) < length:
            part = os.read(self._source, length - len(content))
            if not part:
                os._exit(0)
            content += part
        return bytes(content)


def serve_candidate(channel: Channel) -> None:
    """Run the program, then answer calls of its function. Everything here is in the candidate's hands."""
    task = channel.receive()
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    problem: BaseException | None = None
    try:
        exec(compile(task["program"], "<solution>", "exec"), module.__dict__)  # noqa: S102 - what the sandbox is for
    except BaseException as error:  # noqa: BLE001 - told at every call
        problem = error
    while True:
        arguments = channel.receive()
        try:
            if problem is not None:
                raise problem
            positional, named = decode(arguments)
            result = getattr(module, task["entry_point"])(*positional, **named)
            reply = ["returned", encode(result, foreign=True)]
        except BaseException as error:  # noqa: BLE001 - told to the judge
            reply = describe(error)
        try:
            channel.send(reply)
        except Unsendable as error:
            channel.send(["ended", [], str(error)])


class Judge:
    """Runs the tests with a stand-in for the candidate's function, and says what came of it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._num_calls = 0
        self._fault: BaseException | None = None  # kept, should a test swallow it
        self._raised: Exception | None = None

    def judge(self) -> None:
        task = self._channel.receive()
        kind, reason = "passed", ""
        try:
            self._run(task)
        except BaseException as error:  # noqa: BLE001 - whatever a test raises is its verdict
            self._fault = self._fault or error
        fault = self._fault
        if fault is not None:
            # A name that the tests lack is a fault of theirs, unless the candidate was who raised it.
            broken = isinstance(fault, Unsendable | SyntaxError | NameError | ImportError) and fault is not self._raised
            kind, reason = "error" if broken else "failed", f"{type(fault).__name__}: {fault}"[:MAX_REASON_CHARS]
        elif not self._num_calls:
            kind, reason = "error", "the tests never call the candidate"
        self._channel.send({"verdict": kind, "reason": reason})

    def _run(self, task: dict[str, str]) -> None:
        namespace: dict[str, Any] = {"__name__": "tests"}
        exec(compile(task["setup"], "<setup>", "exec"), namespace)  # noqa: S102
        namespace[task["entry_point"]] = self._call
        exec(compile(task["tests"], "<tests>", "exec"), namespace)  # noqa: S102
        if "check" in namespace:
            namespace["check"](self._call)

    def _call(self, *arguments: Any, **named: Any) -> Any:
        self._num_calls += 1
        try:
            self._channel.send({"call": encode([list(arguments), named], foreign=False)})
            reply = self._channel.receive()
            if not (isinstance(reply, list) and len(reply) in (2, 3)):
                raise Malformed("the candidate's reply is no reply")
            if reply[0] == "returned":
                return decode(reply[1])
            if reply[0] == "raised" and len(reply) == 3 and isinstance(reply[1], list):
                self._raised = raised(reply[1], str(reply[2]))
                raise self._raised
            raise CandidateEnded(f"{reply[1:]}"[:MAX_REASON_CHARS])
        except (Unsendable, Malformed, CandidateEnded, RecursionError) as fault:
            if fault is not self._raised:
                self._fault = self._fault or fault
            raise


def limit(memory_bytes: int, file_bytes: int, num_files: int, cpu_s: int) -> None:
    """Give up, for good, all resources above these."""
    for name, most in {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_NOFILE: num_files,
        resource.RLIMIT_NPROC: 1,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }.items():
        _, hard = resource.getrlimit(name)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (most, most))


def leaks() -> list[str]:
    """What this process can do that nothing in a sandbox should."""
    found = []
    if os.getpid() > 2:
        found.append("it shares process ids")
    if set(os.environ) - {"PYTHONHASHSEED", "PWD", "LC_CTYPE"}:
        found.append("it has an environment")
    if os.path.exists("/proc") or os.path.exists("/etc/passwd"):  # noqa: PTH110 - pathlib costs 10 ms here
        found.append("it sees the system's files")
    try:
        if os.fork() == 0:
            os._exit(0)
        found.append("it can start processes")
    except OSError:
        pass
    return found


def main(role: str, limits: str) -> None:
    limit(**json.loads(limits))
    channel = Channel()
    channel.send({"leaks": leaks() if role == "probe" else []})
    if role == "candidate":
        serve_candidate(channel)
    elif role == "judge":
        Judge(channel).judge()


if __name__ == "__main__":
    main(*sys.argv[1:])
