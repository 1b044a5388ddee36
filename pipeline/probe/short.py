"""The probe within a run: few problems, in seconds, at its start, after SFT and at its end.

It tells a skill that is there from one that is not, not 60 from 70 %: intervals are wide, and say so. Controls that
cost as much as the measure are left out; so is what is not answered within `BUDGET_S`, and no request outlives that."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.errors import EndpointError
from pipeline.evaluation.plan import BenchmarkTasks
from pipeline.inference.client import InferenceClient
from pipeline.inference.protocol import Reply
from pipeline.probe.grounds import Operators, own_ground
from pipeline.probe.policy import Policy
from pipeline.probe.report import ProbeReport, report
from pipeline.probe.runner import measure, measures
from pipeline.probe.skills import Answer
from pipeline.rewards.verifier import Verifier
from pipeline.types import Message, Task

BUDGET_S = 20.0
NUM_AT_ONCE = 64
MAX_LESSON_TOKENS = 160
STAGE = "probe"
OUT_OF_TIME = "out of time"
"""In place of a failure's kind: measures that the budget left no time for, the longer ones rather than the shorter."""


async def short_probe(
    name: str, config: Config, endpoints: InferenceClient, verifier: Verifier, heldout: Sequence[Task], out: Path
) -> ProbeReport:
    """Measure `eval.num_probed` problems of each kind, `heldout` ones of the run among them, and write each answer to
    `out` (JSONL)."""
    loop = asyncio.get_running_loop()
    begin_s, num = loop.time(), config.eval.num_probed
    usage = {kind: endpoints.usage.total(kind, STAGE) for kind in ("requests", "prompt_tokens", "completion_tokens")}
    operators = await asyncio.to_thread(Operators, config, num)
    own = BenchmarkTasks("heldout", list(heldout[:num]), config.longest_answer, config.reward.scorer, is_heldout=True)
    # A judge is asked for money: its problems are left to the command.
    grounds = [] if config.reward.judges else [own_ground(operators, own, verifier, num)]
    policy = Policy(config, _asked_of(endpoints), MAX_LESSON_TOKENS)
    answers: list[Answer] = []
    failures: Counter[str] = Counter()
    num_done = 0
    wanted = measures(policy, operators, grounds, config.longest_answer, brief=True)

    def note(found: Sequence[Answer]) -> None:
        nonlocal num_done
        num_done += 1
        answers.extend(found)

    def failed(error: EndpointError) -> None:
        failures[error.kind] += 1

    try:
        async with asyncio.timeout(BUDGET_S):
            await measure(wanted, NUM_AT_ONCE, note, failed)
    except TimeoutError:
        failures[OUT_OF_TIME] = len(wanted) - num_done - failures.total()
    with out.open("w", encoding="utf-8") as file:
        for answer in answers:
            file.write(answer.model_dump_json() + "\n")
    spent = {kind: endpoints.usage.total(kind, STAGE) - before for kind, before in usage.items()}
    return report(
        name,
        answers,
        failures=dict(failures),
        num_requests=spent["requests"],
        num_prompt_tokens=spent["prompt_tokens"],
        num_completion_tokens=spent["completion_tokens"],
        seconds=loop.time() - begin_s,
    )


def _asked_of(endpoints: InferenceClient) -> Any:
    async def request(messages: tuple[Message, ...], sample: int, wanted: dict[str, Any]) -> Reply:
        return await endpoints.chat(messages, **wanted, stage=STAGE, seed=sample, affinity=messages[-1].content)

    return request
