"""Calls a function of benchmarks in a process of its own: `python -m benchmarks.child clients:run '{"client": "bare",
…}'`.

It prints what the function returns as JSON, as the last line. The peers' environment runs it too, so it imports nothing
of ours."""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    module, _, function = sys.argv[1].partition(":")
    print(json.dumps(getattr(importlib.import_module(f"benchmarks.{module}"), function)(**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
