"""Frames between a sandboxed process and its owner: four bytes of length and that many of JSON.

Runs inside of the sandbox. The C parts of `json` are used without it: it imports the regular expressions, which cost a
start more than all the rest."""

from __future__ import annotations

import builtins
import io
import os
import sys
from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_FRAME_BYTES = 4 << 20
MAX_REASON_CHARS = 300


class Unsendable(BaseException):
    """What cannot be written as data, or is too long: where a test gives it to the candidate, nobody can judge."""


class Malformed(BaseException):
    """What came from the candidate is no value."""


class _Reading:
    """What the scanner asks of its decoder."""

    strict, object_hook, object_pairs_hook = False, None, None
    parse_float, parse_int, parse_constant = float, int, float


_scan = make_scanner(_Reading)  # type: ignore[arg-type]
_chunks, _ascii_chunks = (
    make_encoder({}, str, write, None, ": ", ", ", False, False, True)
    for write in (encode_basestring, encode_basestring_ascii)
)


def loads(content: bytes) -> Any:
    """The value that a JSON text holds. Raises Malformed where it is none."""
    try:
        text = content.decode()
        value, end = _scan(text, 0)
    except (ValueError, RecursionError, StopIteration):
        raise Malformed("what the candidate sent is no JSON") from None
    if end != len(text):
        raise Malformed("what the candidate sent is no JSON")
    return value


def dumps(value: Any) -> bytes:
    """`value` as a JSON text: a letter is no longer than in UTF-8, unless half a one (a lone surrogate) is there."""
    try:
        return "".join([encode_basestring(value)] if isinstance(value, str) else _chunks(value, 0)).encode()
    except UnicodeEncodeError:
        return "".join([encode_basestring_ascii(value)] if isinstance(value, str) else _ascii_chunks(value, 0)).encode()


def compiled(source: Any, name: str) -> Any:
    """A program, without the future of this module."""
    return compile(source, name, "exec", dont_inherit=True)


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
        return loads(self._exactly(int.from_bytes(self._exactly(4), "big")))

    def send(self, message: Any) -> None:
        content = dumps(message)
        if len(content) > MAX_FRAME_BYTES:
            raise Unsendable(f"more than {MAX_FRAME_BYTES >> 20} MiB")
        self._sink.write(len(content).to_bytes(4, "big") + content)
        self._sink.flush()

    def reply(self, message: list[Any]) -> None:
        """Send what a program made, or that it cannot be sent, which ends the program."""
        try:
            self.send(message)
        except Unsendable as error:
            self.send(["ended", [], str(error)])

    def _exactly(self, length: int) -> bytes:
        content = self._source.read(length)
        if len(content) < length:
            os._exit(0)
        return content


def described(error: BaseException) -> list[Any]:
    """How what the candidate raised is reported: its classes, nearest first, and its message. 'missing' are modules
    that the sandbox lacks, 'ended' is what would end a program."""
    module = str(error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if module and module not in sys.stdlib_module_names:
        return ["missing", [module], ""]
    # A class of the program's that is called as a built-in one is not that.
    names = [kind.__name__ for kind in type(error).__mro__ if vars(builtins).get(kind.__name__, kind) is kind]
    try:
        said = error.args[0] if isinstance(error, KeyError) and error.args else error  # its text is in quotes
        message = str(said)[:MAX_REASON_CHARS]
    except Exception:  # noqa: BLE001 - the candidate's own __str__
        message = ""
    return ["raised" if isinstance(error, Exception) else "ended", names, message]


def raised(names: list[Any], message: str, known: dict[str, Any] | None = None) -> Exception:
    """The nearest exception of `names`, built-in or `known`, that a message alone can make."""
    for name in names:
        kind = (known or {}).get(str(name)) or getattr(builtins, str(name), None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                return kind(message)
            except TypeError:
                continue
    return Exception(message)
