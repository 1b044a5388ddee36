"""The side of the sandbox that holds a program which reads its standard input and prints.

Everything here is in the program's hands. It runs anew for each input, in a module of its own; the expected output is
never here, nor is a verdict."""

from __future__ import annotations

import builtins
import gc
import io
import os
import sys

from pipeline.rewards.code.channel import Channel, compiled, described
from pipeline.rewards.code.threads import replace_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


STREAMS = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2} | {f"/dev/fd/{number}": number for number in range(3)}
_open = open


class Printer:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._spare = os.dup(0)  # leads nowhere

    def serve(self) -> None:
        program = self._channel.receive()["program"]
        os._exit = _leave  # type: ignore[assignment]  # a usual way to save a program's last milliseconds
        builtins.open = io.open = _opened
        replace_threads(program)
        while True:
            self._channel.reply(self._run(program, self._channel.receive()["input"]))

    def _run(self, program: str, given: str) -> list[Any]:
        module = type(sys)("__main__")
        sys.modules["__main__"] = module
        gc.collect()  # what the program of the last case held of the streams
        for number in (0, 1):
            os.dup2(self._spare, number)  # it may have closed them
        source, sink = _file(given.encode(errors="surrogatepass")), _file(b"")
        os.dup2(source, 0)
        os.dup2(sink, 1)
        sys.stdin = io.TextIOWrapper(open(0, "rb", closefd=False))  # noqa: SIM115
        sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False))  # noqa: SIM115
        sys.stdin.mode, sys.stdout.mode = "r", "w"  # type: ignore[misc]  # as an interpreter sets them
        sys.argv = ["program.py"]
        vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout)
        own = sys.stdout
        reply: list[Any] = []
        try:
            exec(compiled(program, "program.py"), module.__dict__)  # noqa: S102 - what the sandbox is for
        except SystemExit as error:
            reply = [] if error.code in (None, 0, False) else described(error)
        except BaseException as error:  # noqa: BLE001 - reported to the owner
            reply = described(error)
        try:
            if "atexit" in sys.modules:
                sys.modules["atexit"]._run_exitfuncs()
            for stream in (sys.stdout, own):
                if not getattr(stream, "closed", False):
                    stream.flush()
            content = os.pread(sink, os.fstat(sink).st_size, 0)
            reply = reply or ["printed", content.decode(errors="replace")]
        except BaseException as error:  # noqa: BLE001 - the same
            reply = reply or described(error)
        os.close(source)
        os.close(sink)
        return reply


def _file(content: bytes) -> int:
    """A file without a name that holds `content`, at its start."""
    number = os.open("/tmp/.stream", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)  # noqa: S108
    os.unlink("/tmp/.stream")  # noqa: S108, PTH108
    while content:
        content = content[os.write(number, content) :]
    os.lseek(number, 0, os.SEEK_SET)
    return number


def _opened(file: Any, *arguments: Any, **named: Any) -> Any:
    """`open`, where the standard streams have their names; the sandbox has no devices."""
    if isinstance(file, str | os.PathLike):
        file = STREAMS.get(os.fspath(file), file)
    return _open(file, *arguments, **named)


def _leave(code: int = 0) -> None:
    raise SystemExit(code)
