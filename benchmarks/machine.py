"""What benchmarks need of the machine, and say of it: processes, servers, wrk, seconds and their medians."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def described(command: str) -> str:
    """The command and the machine, for the head of a report."""
    model = "unknown processor"
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        model = found[1] if found else model
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
    """Requests/s that wrk gets from a server with POSTs."""
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


def run(*arguments: str, python: str = sys.executable, env: Mapping[str, str] | None = None) -> str:
    """What a Python process prints. Raises RuntimeError with the end of it where the process fails."""
    done = subprocess.run(
        [python, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def in_child(function: str, python: str = sys.executable, **arguments: Any) -> Any:
    """What a function of benchmarks, as 'module:name', returns in a process of its own: each client runs in one."""
    return json.loads(run("-m", "benchmarks.child", function, json.dumps(arguments), python=python).splitlines()[-1])


def client(name: str, url: str, **arguments: Any) -> Any:
    """What a client of benchmarks.clients measures. Raises RuntimeError where any request failed."""
    result = in_child("clients:run", client=name, url=url, **arguments)
    if result["failures"]:
        raise RuntimeError(f"{name} failed: {result['failures']}")
    return result


def orchestrate(command: str, options: Mapping[str, Any], *more: str, env: Mapping[str, str] | None = None) -> None:
    """Run a command of the root program with `--name value` options."""
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    run("-m", "pipeline.orchestrate", command, *arguments, *more, env=env)


def seconds_of(call: Callable[..., Any], *arguments: Any) -> float:
    begin_s = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begin_s


def median_ratio(ours: Iterable[float], theirs: Iterable[float]) -> float:
    """Median of the ratios round by round: neighbours in time share whatever else the machine was doing."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def shown(value: Any) -> str:
    """A cell of a table."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "-" if value is None else str(value)


def heading(row: dict[str, Any]) -> str:
    return f"| {' | '.join(row)} |\n|{'---|' * len(row)}"


def line(row: dict[str, Any]) -> str:
    return f"| {' | '.join(map(shown, row.values()))} |"
