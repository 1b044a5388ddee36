"""`stress`: load on any OpenAI-compatible endpoint, or on the mock endpoint where none is named."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import ValidationError

from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.config.validation import invalid_fields
from pipeline.errors import ConfigError, DataError, ServerStartError
from pipeline.inference.capabilities import check_endpoint
from pipeline.inference.client import InferenceClient
from pipeline.inference.load_test import Load, Stress, StressReport
from pipeline.observability.latency_plot import plot_latency
from pipeline.observability.progress import progress, warn
from pipeline.runtime import event_loop
from pipeline.runtime.child_process import Child, tail
from pipeline.runtime.watchdog import Watchdog
from pipeline.runtime.written import Written, make_folder

REPORT, PLOT, MOCK_LOG = "report.json", "latency", "mock.log"
MOCK_START_S = 30.0


def stress_command(arguments: argparse.Namespace) -> int:
    """Run the load; print the report, write it and the plot; the exit status tells whether the bounds held."""
    load = _load(arguments)
    requests = _requests(arguments)
    if arguments.endpoint and (arguments.faults or arguments.latency):
        option = "--faults" if arguments.faults else "--latency"
        raise ConfigError(
            f"{option} is for the mock endpoint, but --endpoint {arguments.endpoint} is named; leave one of them out"
        )
    out = arguments.out or Path(f"stress-{time.strftime('%Y%m%d-%H%M%S')}")
    written, plot = _written(out, arguments.plot), f"{PLOT}.{arguments.plot}"
    stress, stopped = event_loop.run(_run(arguments, load, requests, out))
    report = stress.report()
    written.write(REPORT, json.dumps(report.model_dump(), indent=1), "--out")
    if report.num_answered or not stopped:
        written.write(plot, plot_latency(stress.shots, report, arguments.plot), "--out")
    for line in report.lines():
        print(line)
    print(f"report    {out / REPORT}{f', plot {out / plot}' if written.owns(plot) else ''}")
    broken = report.broken_bounds(arguments.max_p99_s, arguments.max_error_rate)
    for words in broken:
        print(f"BROKEN    {words}")
    return 130 if stopped else int(bool(broken))


def _written(out: Path, plot: str) -> Written:
    """What load tests wrote in `out`, earlier versions among them. Raises RunFolderError where somebody else's files
    would be replaced."""
    make_folder(out, "--out")
    written = Written(out, by="stress")
    if not written.is_listed(REPORT) and written.adopt(REPORT, _is_report, replaced=True):
        for name in (MOCK_LOG, f"{PLOT}.png", f"{PLOT}.svg"):
            written.adopt(name, lambda path: True, replaced=name != MOCK_LOG)
    written.check(REPORT, f"{PLOT}.{plot}", option="--out")
    written.claim(MOCK_LOG, option="--out")
    return written


def _is_report(path: Path) -> bool:
    StressReport.model_validate_json(path.read_bytes())
    return True


def _load(arguments: argparse.Namespace) -> Load:
    for name in ("requests", "concurrency", "max_tokens", "max_attempts"):
        if getattr(arguments, name) < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {getattr(arguments, name)}: give a number of 1 or more")
    prompts: tuple[str, ...] = ()
    if arguments.prompts:
        try:
            lines = arguments.prompts.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise DataError(
                f"--prompts {arguments.prompts}: {error.strerror}; give a text file, one prompt a line"
            ) from error
        prompts = tuple(line for line in lines if line.strip())
        if not prompts:
            raise DataError(f"--prompts {arguments.prompts}: the file has no prompts; write one a line")
    return Load(
        num_requests=arguments.requests, concurrency=arguments.concurrency, max_tokens=arguments.max_tokens,
        temperature=arguments.temperature, stream=arguments.stream, seed=arguments.seed, prompts=prompts,
    )  # fmt: skip


def _requests(arguments: argparse.Namespace) -> RequestsSection:
    try:
        return RequestsSection(
            timeout_s=arguments.timeout_s,
            attempt_timeout_s=min(arguments.attempt_timeout_s, arguments.timeout_s),
            max_attempts=arguments.max_attempts,
            adaptive=not arguments.fixed_concurrency,
            max_outage_s=arguments.timeout_s,
        )
    except ValidationError as error:
        first = invalid_fields(error)[0]
        raise ConfigError(f"--{first.field.replace('_', '-')} {first.value}: {first.message}") from None


async def _run(arguments: argparse.Namespace, load: Load, requests: RequestsSection, out: Path) -> tuple[Stress, bool]:
    """What was measured, and whether the run was stopped before its end."""
    async with contextlib.AsyncExitStack() as stack:
        url = arguments.endpoint or await stack.enter_async_context(_mock(arguments, out))
        settings = EndpointSettings(
            url=url, model=arguments.model, api_key_env=arguments.api_key_env, max_concurrency=load.concurrency
        )
        watchdog = Watchdog(warn, stuck_after_s=60.0)
        pool = await stack.enter_async_context(
            InferenceClient((settings,), "", requests, watchdog=watchdog, on_trouble=warn)
        )
        await check_endpoint(pool, pool.endpoints[0], training=False)
        stress = Stress(pool, load, stack.enter_context(progress("requests", load.num_requests)))
        running = asyncio.ensure_future(stress.run())
        stack.enter_context(event_loop.on_stop(running.cancel))
        try:
            await running
            stopped = False
        except asyncio.CancelledError:
            stopped = True
    return stress, stopped


@contextlib.asynccontextmanager
async def _mock(arguments: argparse.Namespace, out: Path) -> AsyncIterator[str]:
    """A mock endpoint of our own; its address."""
    log = out / MOCK_LOG
    log.write_bytes(b"")
    command = [sys.executable, "-m", "servers.mock", "--model", arguments.model or "policy"]
    command += ["--latency", arguments.latency or "lognormal:0.1,0.5"]
    if arguments.faults:
        command += ["--faults", arguments.faults]
    child = await Child.start("mock endpoint", command, log)
    try:
        async with asyncio.timeout(MOCK_START_S):
            while not (lines := log.read_text(encoding="utf-8").splitlines()) or not lines[0].startswith("http"):
                if child.returncode is not None:
                    raise ServerStartError(f"the mock endpoint did not start: {tail(log)}")
                await asyncio.sleep(0.05)
        print(f"no --endpoint: a mock endpoint at {lines[0]}")
        yield lines[0]
    finally:
        await child.stop(5.0)
