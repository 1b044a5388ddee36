"""What benchmarks need of the machine, and say of it: processes, open files, wrk, medians."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

NOT_COUNTED = 3
"""Exit status of a comparison that does not count: the server was not three times as fast as the faster client."""
HEADROOM = 3.0


def described() -> str:
    """The machine and the command, for the head of a report."""
    model = "unknown processor"
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        model = found[1] if found else model
    command = " ".join(["python -m", "benchmarks." + Path(sys.argv[0]).stem, *sys.argv[1:]])
    return f"`{command}` · {os.cpu_count()} cores, {model} · Python {platform.python_version()}"


@contextlib.contextmanager
def server(*arguments: str, module: str = "benchmarks.canned") -> Iterator[str]:
    """A server process that prints its address first; ended by pid."""
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url.startswith("http"):
            raise RuntimeError(f"{module} did not start")
        yield url
    finally:
        process.terminate()
        process.wait()


def wrk(url: str, path: str, num_connections: int, seconds: float = 4.0, body: str = "{}") -> float:
    """Requests/s that wrk gets from a server with POSTs. Raises UserError where wrk is not installed."""
    if shutil.which("wrk") is None:
        raise UserError("wrk is not installed, so it cannot be shown that the server is fast enough; apt install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f"wrk.method='POST'\nwrk.body={json.dumps(body)}\nwrk.headers['Content-Type']='application/json'\n"
        )
        script.flush()
        command = ["wrk", "-t1", f"-c{num_connections}", f"-d{seconds:g}s", "-s", script.name, url + path]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Requests/sec:\s*([\d.]+)", output)
    if not found:
        raise RuntimeError(f"wrk said no rate:\n{output}")
    return float(found[1])


def measured(*arguments: str, python: str = sys.executable, env: dict[str, str] | None = None) -> Any:
    """The JSON that a client process prints as its last line: each client runs in a process of its own."""
    done = subprocess.run(
        [python, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table, columns in the order of the first row."""
    names = list(rows[0])
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(_shown(row.get(name)) for name in names)} |" for row in rows]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "-" if value is None else str(value)
