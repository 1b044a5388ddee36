"""Command line of the mock endpoint."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress

from aiohttp import web
from pydantic import ValidationError

from servers.mock.endpoint import MockEndpoint, Settings
from servers.mock.faults import read_plan

HOST = "127.0.0.1"


async def serve(settings: Settings, port: int) -> None:
    """Serve until cancelled; print the address once connections are accepted."""
    runner = web.AppRunner(MockEndpoint(settings).application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port, backlog=4096).start()
        print(f"http://{HOST}:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m servers.mock", description="A mock OpenAI-compatible endpoint with faults."
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: a free one, printed")
    parser.add_argument("--model", default="policy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency-s", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--accuracy", type=float, default=0.5, help="probability of a right answer to a sum")
    parser.add_argument("--no-token-ids", action="store_true", help="a plain OpenAI endpoint, without vLLM's additions")
    parser.add_argument(
        "--faults", default="", help="JSON file with a list of faults, or a seed for twenty random ones"
    )
    arguments = parser.parse_args(argv)
    try:
        faults = read_plan(arguments.faults)
        settings = Settings(
            model=arguments.model, seed=arguments.seed, latency_s=arguments.latency_s, accuracy=arguments.accuracy,
            token_ids=not arguments.no_token_ids, faults=faults,
        )  # fmt: skip
    except (OSError, ValidationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with suppress(KeyboardInterrupt):  # the usual way to end it
        asyncio.run(serve(settings, arguments.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
