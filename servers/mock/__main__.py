"""Command line of the mock endpoint."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import suppress

from aiohttp import web
from pydantic import ValidationError

from servers.mock.endpoint import MockEndpoint, Settings
from servers.mock.faults import FaultRate, read_plan

HOST = "127.0.0.1"
EXAMPLES = """examples:
  python -m servers.mock --port 8000 --latency lognormal:0.3,0.8
  python -m servers.mock --faults 7 --fault-rate 0.1       # one request in ten meets a fault, the same ones each time
  python -m servers.mock --faults plan.json                # [{"kind": "status", "code": 429, "retry_after": "2", "count": 5}]
  python -m servers.mock --no-token-ids --max-concurrency 64 --api-key-env MY_KEY"""


async def serve(settings: Settings, port: int) -> None:
    """Serve until cancelled; print the address once connections are accepted."""
    runner = web.AppRunner(MockEndpoint(settings).application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port, backlog=8192).start()
        print(f"http://{HOST}:{runner.addresses[0][1]}", flush=True)
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m servers.mock", description="A mock OpenAI-compatible endpoint with seeded faults.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: a free one, printed")
    parser.add_argument("--model", default="policy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency-s", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--latency", default="", help="a distribution of them: fixed:S, uniform:LEAST,MOST, exponential:MEAN, "
                        "lognormal:MEDIAN,SIGMA, pareto:LEAST,SHAPE")  # fmt: skip
    parser.add_argument("--s-per-token", type=float, default=0.0, help="seconds that each token takes")
    parser.add_argument("--num-tokens", type=int, default=0, help="length of each answer; 0: as it happens to be")
    parser.add_argument("--accuracy", type=float, default=0.5, help="probability of a right answer to a sum")
    parser.add_argument("--no-token-ids", action="store_true", help="a plain OpenAI endpoint, without vLLM's additions")
    parser.add_argument("--max-lora-rank", type=int, default=0, help="greatest rank of adapters; 0: none are loaded")
    parser.add_argument("--max-concurrency", type=int, default=0, help="more generations at once are answered 429")
    parser.add_argument(
        "--api-key-env", default="", metavar="NAME", help="environment variable with the key to ask for"
    )
    parser.add_argument("--faults", default="", help="a seed for random faults, or a JSON file with a list of them")
    parser.add_argument("--fault-rate", type=float, default=0.05, help="probability of a random fault")
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    seeded = arguments.faults.isdigit()
    rate = {"seed": int(arguments.faults), "probability": arguments.fault_rate} if seeded else None
    try:
        settings = Settings(
            model=arguments.model, seed=arguments.seed, latency_s=arguments.latency_s, latency=arguments.latency,
            s_per_token=arguments.s_per_token, num_tokens=arguments.num_tokens, accuracy=arguments.accuracy,
            token_ids=not arguments.no_token_ids, max_concurrency=arguments.max_concurrency,
            max_lora_rank=arguments.max_lora_rank,
            api_key=os.environ.get(arguments.api_key_env, "") if arguments.api_key_env else "",
            faults=[] if seeded else read_plan(arguments.faults),
            fault_rate=FaultRate.model_validate(rate) if rate else None,
        )  # fmt: skip
    except (OSError, ValidationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    factory = None
    with suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with (
        suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=factory) as runner,
    ):  # Ctrl-C is the usual way to end it
        runner.run(serve(settings, arguments.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
