"""Command line of the mock endpoint."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from contextlib import suppress

from pydantic import ValidationError

from pipeline.runtime.event_loop import loop_factory
from servers.mock.endpoint import MockEndpoint
from servers.mock.faults import FaultRate, read_plan
from servers.mock.settings import Settings
from servers.web import serve

OPTIONS = (
    *("model", "seed", "latency_s", "latency", "s_per_token", "num_tokens", "accuracy"),
    *("max_lora_rank", "max_concurrency"),
)
"""Settings that have an option of their name."""
EXAMPLES = """examples:
  python -m servers.mock --port 8000 --latency lognormal:0.3,0.8
  python -m servers.mock --faults 7 --fault-rate 0.1       # one request in ten meets a fault, the same ones each time
  python -m servers.mock --faults plan.json  # [{"kind": "status", "code": 429, "retry_after": "2", "count": 5}]
  python -m servers.mock --no-token-ids --max-concurrency 64 --api-key-env MY_KEY"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m servers.mock", description="A mock OpenAI-compatible endpoint with seeded faults.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: a free one, printed")
    for name in OPTIONS:
        field = Settings.model_fields[name]
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=field.annotation,  # type: ignore[arg-type]  # one of str, int, float
            default=field.default,
            help=field.description,
        )
    parser.add_argument(
        "--no-token-ids",
        action="store_false",
        dest="token_ids",
        help="a plain OpenAI endpoint, without vLLM's additions",
    )
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
            **{name: getattr(arguments, name) for name in (*OPTIONS, "token_ids")},
            api_key=os.environ.get(arguments.api_key_env, ""),
            faults=[] if seeded else read_plan(arguments.faults),
            fault_rate=FaultRate.model_validate(rate) if rate else None,
        )
    except (OSError, ValidationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=loop_factory()) as runner:  # Ctrl-C is the usual end
        runner.run(serve(MockEndpoint(settings).application(), arguments.port, shutdown_timeout_s=1.0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
