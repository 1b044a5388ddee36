"""The side of the sandbox that holds a problem's checker: trusted code that reads what an untrusted program printed.

A checker either defines `check(input, output, expected)`, which returns whether the output is right, or is a script as
of open-r1/codeforces: it is given the names of three files (input, expected, output), and prints what it pays. It runs
anew for each output."""

from __future__ import annotations

import io
import sys

from pipeline.rewards.code.channel import Channel, compiled, described

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Checker:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def serve(self) -> None:
        source = self._channel.receive()["checker"]
        while True:
            case = self._channel.receive()
            try:
                reply: list[Any] = ["said", self._said(source, case["input"], case["output"], case["expected"])]
            except BaseException as error:  # noqa: BLE001 - reported to the owner
                reply = described(error)
            self._channel.send(reply)

    def _said(self, source: str, given: str, output: str, expected: str) -> float:
        paths = [_written(name, text) for name, text in (("input", given), ("expected", expected), ("output", output))]
        names: dict[str, Any] = {"__name__": "__main__"}
        printed = sys.stdout = io.StringIO()
        sys.argv = ["checker.py", *paths]
        status: Any = None
        try:
            exec(compiled(source, "checker.py"), names)  # noqa: S102 - the problem's own code
        except SystemExit as error:
            status = error.code
        if callable(check := names.get("check")):
            return float(check(given, output, expected))
        words = printed.getvalue().split()
        if not words:
            return float(status is not None and not status)
        return float({"true": 1, "yes": 1, "ok": 1, "false": 0, "no": 0}.get(words[-1].lower(), words[-1]))


def _written(name: str, text: str) -> str:
    path = f"/tmp/{name}.txt"  # noqa: S108
    with open(path, "w", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        file.write(text)
    return path
