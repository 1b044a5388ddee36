"""One session of a probe: opens its folder and its endpoint, takes the measures that are wanted, writes the report.

evaluation.json   the identity of the model; another model needs another folder
answers.jsonl     every answer of the last command: what was shown, what was expected, what came
replies.sqlite    every reply, by its request: the same command, or one of more problems, pays for what is new
probe.json, probe.md
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, EndpointError
from pipeline.evaluation.benchmarks import fitted, load_benchmarks
from pipeline.evaluation.cost import cost_of, spending
from pipeline.evaluation.defaults import adapted
from pipeline.evaluation.folder import REPLIES, EvalFolder
from pipeline.evaluation.model_session import EvalOptions, ModelSession, Outcome, with_remedy
from pipeline.evaluation.plan import BenchmarkTasks
from pipeline.evaluation.requests import PaidRequests
from pipeline.inference.client import InferenceClient
from pipeline.inference.protocol import Reply
from pipeline.inference.reply_cache import ReplyCache, key_of
from pipeline.observability.progress import progress
from pipeline.probe.grounds import (
    BUILT_IN,
    OPERATORS,
    STATED,
    SUMS,
    Ground,
    Operators,
    own_ground,
    stated_ground,
    sums_ground,
)
from pipeline.probe.markdown import page
from pipeline.probe.policy import Policy
from pipeline.probe.report import ProbeReport, report
from pipeline.probe.runner import measure, measures
from pipeline.probe.skills import Answer
from pipeline.rewards.verifier import Verifier
from pipeline.runtime import jsonl
from pipeline.types import Message


class ProbeFolder(EvalFolder):
    by = "probe"
    root = Path("probes")
    reports = ("probe.json", "probe.md")
    files = ("evaluation.json", "answers.jsonl", *REPLIES)


class ProbeSession(ModelSession[ProbeReport]):
    """Wires the parts of one probe, top to bottom. `num` problems are measured on each of `grounds`, with answers of at
    most `max_tokens`."""

    folder_type = ProbeFolder

    def __init__(
        self,
        options: EvalOptions,
        grounds: Sequence[str],
        num: int,
        max_tokens: int,
        log: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        super().__init__(options, log, warn)
        self._names = grounds
        self._num = num
        self._max_tokens = max_tokens

    async def _done(self) -> Outcome[ProbeReport]:
        config = self._config
        operators = await asyncio.to_thread(Operators, config, self._num)
        own = await asyncio.to_thread(self._own_benchmarks)
        longest = BenchmarkTasks("", [], self._max_tokens, "math")
        self._config = adapted(config, self._options.explicit, [longest, *own])
        async with self._stack:
            folder, endpoints = await self._opened()
            config = self._config
            replies = await self._stack.enter_async_context(ReplyCache(folder.replies_file))
            grounds = await self._grounds(operators, own, folder, endpoints, replies)
            self._run = requests = PaidRequests(config, endpoints, replies, self._end_waits)
            policy = Policy(config, _paid(requests, config.rollout.chat_template_kwargs))
            on_operators = operators if OPERATORS in self._names else None
            wanted = measures(policy, on_operators, grounds, self._max_tokens)
            answers = await self._measured(wanted, requests, folder)
            kept = f"what was answered is kept in {folder.path}; the same command goes on there"
            if requests.stopped:
                self._log(f"stopped: {kept}")
                return Outcome(folder)
            failure = requests.fatal
            if failure is not None:
                failure = with_remedy(failure, kept)
            if not answers:
                first = f"nothing could be measured; first failure: {requests.first_failure}. {kept}"
                raise failure or EndpointError("probe", first)
            spent = [one.priced(self._prices) for one in replies.spent()]
            found = report(
                folder.path.name,
                answers,
                failures=dict(requests.failures),
                num_requests=replies.num_requests,
                num_known=replies.num_cached,
                num_prompt_tokens=sum(one.num_prompt_tokens for one in spent),
                num_completion_tokens=sum(one.num_completion_tokens for one in spent),
                cost=cost_of(self._usages),
                seconds=time.monotonic() - self._begin_s,
            )
            folder.write_report("probe.json", found.model_dump_json(indent=1))
            folder.write_report("probe.md", page(found))
            return Outcome(folder, found, failure, requests.first_failure)

    def _own_benchmarks(self) -> list[BenchmarkTasks]:
        """The user's problems. Raises ConfigError, DataError."""
        if not (names := tuple(name for name in self._names if name not in BUILT_IN)):
            return []
        settings = self._config.eval.model_copy(update={"benchmarks": names, "limit": self._num})
        config = self._config.model_copy(update={"eval": settings})
        found = load_benchmarks(config, self._options.registry, self._options.data)
        for one in found:
            if one.scorer == "judge":
                raise ConfigError(
                    f"--problems {one.name}: an LLM judges these answers, and a probe needs verdicts of a program; "
                    "name problems with a checkable answer"
                )
        return found

    async def _grounds(
        self,
        operators: Operators,
        own: Sequence[BenchmarkTasks],
        folder: ProbeFolder,
        endpoints: InferenceClient,
        replies: ReplyCache,
    ) -> list[Ground]:
        found = [stated_ground(operators, self._max_tokens)] if STATED in self._names else []
        if SUMS in self._names:
            found.append(await asyncio.to_thread(sums_ground, operators, self._num, self._max_tokens))
        for one in own:
            reward = self._config.reward.model_copy(update={"scorer": one.scorer, "scorers": ()})
            verifier = await self._stack.enter_async_context(Verifier(reward))
            found.append(own_ground(operators, fitted(one, endpoints.max_model_len), verifier, self._num))
        if self._options.lessons is not None and own:
            search, _ = await self._search(self._options.lessons, folder, endpoints, replies, own)
            found = [one._replace(search=search) if one.name not in BUILT_IN else one for one in found]
        return found

    async def _measured(self, wanted: Sequence[Any], requests: PaidRequests, folder: ProbeFolder) -> list[Answer]:
        """Take the measures, and write each answer as it comes."""
        answers: list[Answer] = []
        num_done = 0
        jsonl.truncate(folder.answers_file, 0)
        with progress("measures", len(wanted), lambda: spending(self._usages)) as report_done:

            def note(found: Sequence[Answer]) -> None:
                nonlocal num_done
                num_done += 1
                requests.succeeded()
                answers.extend(found)
                for answer in found:
                    jsonl.append(folder.answers_file, answer.model_dump_json())
                report_done(num_done)

            def failed(error: EndpointError) -> None:
                if not requests.stopped:
                    requests.failed(error)

            await measure(wanted, 2 * requests.num_at_once, note, failed, lambda: requests.is_over)
        return answers


def _paid(requests: PaidRequests, template: dict[str, Any]) -> Any:
    """Requests of a policy whose replies are cached by all that they depend on."""

    async def request(messages: tuple[Message, ...], sample: int, wanted: dict[str, Any]) -> Reply:
        sent = [message.model_dump() for message in messages]
        key = key_of(messages=sent, sampling={**wanted, "template": template}, sample=sample)
        return await requests.chat(key, messages, **wanted, stage="probe", affinity=messages[-1].content)

    return request
