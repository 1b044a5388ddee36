"""The program that runs inside the sandbox, as one of two roles in two separate sandboxes: the candidate (untrusted) or
the judge.

`pipeline.rewards.code.test_runner` starts both from the text of this file and of `pipeline.rewards.code.serialization`,
by which values cross as plain data, and carries frames between them. Only the standard library is imported, and nothing
else of the project: the sandbox holds neither. A frame is four bytes of length and that many of JSON.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import resource
import struct
import sys
import types
from typing import Any

from pipeline.rewards.code.serialization import Foreign, Malformed, Unjudgeable, Unsendable, decode, encode

MAX_FRAME_BYTES = 4 << 20
MAX_REASON_CHARS = 300


class CandidateEnded(BaseException):
    """The candidate raised what ends a program."""


def describe(error: BaseException) -> list[Any]:
    """How an exception of the candidate is reported: its built-in classes, nearest first, and its message."""
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
        self._source, self._sink = open(os.dup(0), "rb"), open(os.dup(1), "wb")  # noqa: SIM115, PTH123 - to the end
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
        self._sink.write(struct.pack(">I", len(content)) + content)
        self._sink.flush()

    def _exactly(self, length: int) -> bytes:
        content = self._source.read(length)
        if len(content) < length:
            os._exit(0)
        return content


def serve_candidate(channel: Channel) -> None:
    """Run the program, then answer calls of its function. Everything here is in the candidate's hands."""
    task = channel.receive()
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    problem: BaseException | None = None
    try:
        exec(compile(task["program"], "<solution>", "exec"), module.__dict__)  # noqa: S102 - what the sandbox is for
    except BaseException as error:  # noqa: BLE001 - reported at every call
        problem = error
    while True:
        arguments = channel.receive()
        try:
            if problem is not None:
                raise problem
            positional, named = decode(arguments, trusted=True)
            result = getattr(module, task["entry_point"])(*positional, **named)
            reply = ["returned", encode(result, foreign=True)]
        except BaseException as error:  # noqa: BLE001 - reported to the judge
            reply = describe(error)
        try:
            channel.send(reply)
        except Unsendable as error:
            channel.send(["ended", [], str(error)])


class TestProcess:
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
        fault = Foreign.refusal or self._fault
        if fault is not None:
            # A name that the tests lack is a fault of theirs, unless the candidate was who raised it.
            broken = (
                isinstance(fault, Unsendable | Unjudgeable | SyntaxError | NameError | ImportError)
                and fault is not self._raised
            )
            kind, reason = "error" if broken else "failed", f"{type(fault).__name__}: {fault}"[:MAX_REASON_CHARS]
        elif not self._num_calls:
            kind, reason = "error", "the tests never call the candidate"
        self._channel.send({"verdict": kind, "reason": reason})

    def _run(self, task: dict[str, str]) -> None:
        namespace: dict[str, Any] = {"__name__": "tests"}
        exec(compile(task["setup"], "<setup>", "exec"), namespace)  # noqa: S102
        namespace[task["entry_point"]] = self._call
        before = namespace.get("check")  # the candidate itself, or a helper of the setup
        exec(compile(task["tests"], "<tests>", "exec"), namespace)  # noqa: S102
        if namespace.get("check") is not before:
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
    if os.path.exists("/proc") or os.path.exists("/etc/passwd"):  # noqa: PTH110 - pathlib is slow to import
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
        TestProcess(channel).judge()


if __name__ == "__main__":
    main(*sys.argv[1:])
