"""A process that has answers judged, and prints how many are done: killed and started again by
`tests.integration.test_judge_reward`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pipeline.config import Config
from pipeline.rewards.judge.verifier import verifier_of
from tests.builders import task_with

NUM = 200


async def main(cache: Path, config: Config) -> None:
    async with verifier_of(config, cache) as verifier:

        async def one(number: int) -> None:
            (verdict,) = await verifier.verify_group([f"It is \\boxed{{{number // 2 * 2}}}."], task_with(str(number)))
            assert (verdict.kind, verdict.score) == ("scored", float(number % 2 == 0)), number
            print(number, flush=True)

        await asyncio.gather(*map(one, range(NUM)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Config.model_validate_json(sys.argv[2])))
