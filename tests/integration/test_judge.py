"""The judge against a mock endpoint: its replies fit the schema but are drawn at random, and requests fail as
planned."""

from __future__ import annotations

import pytest

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.errors import EndpointError
from pipeline.inference.client import InferenceClient, client_of
from pipeline.inference.dialect import FORMAT
from pipeline.rewards.judge.agreement import agreement, labelled_answers
from pipeline.rewards.judge.model import NUM_ASKS, AnswerJudge
from pipeline.types import Label, Problem
from servers.mock.faults import CHAT, Fault
from tests.integration.conftest import StartMock

PROBLEM = Problem(id="p", text="What is 3 + 4?", split="heldout")
LABEL = Label(problem_id="p", answer="7")


def pool_over(endpoint: EndpointSettings) -> InferenceClient:
    requests = {"backoff_s": 0.01, "max_attempts": 2, "attempt_timeout_s": 2.0}
    return client_of(Config.model_validate({"requests": requests}), (endpoint,))


async def test_every_labelled_answer_gets_a_verdict_by_the_schema(start_mock: StartMock) -> None:
    async with pool_over(await start_mock()) as pool:
        judge = AnswerJudge(pool, "policy")
        found = await agreement(judge)
        assert (found.num_judged, found.num_errors) == (len(labelled_answers()), 0)
        assert pool.usage.total("requests", "judge") == found.num_judged
        assert min(found.num_true_positives, found.num_false_positives, found.num_true_negatives) > 0
        assert found.line().startswith(f"judge: agrees with {found.accuracy:.1%}")


async def test_what_fails_for_good_is_an_error_and_what_recovers_is_not(start_mock: StartMock) -> None:
    faults = [Fault(route=CHAT, kind="status", code=503), Fault(route=CHAT, kind="truncated_json")]
    async with pool_over(await start_mock(faults=faults[:1])) as pool:
        assert (await AnswerJudge(pool, "policy").verify(PROBLEM, "7", LABEL)).kind == "scored"
    async with pool_over(await start_mock(faults=faults)) as pool:
        judge = AnswerJudge(pool, "policy")
        with pytest.raises(EndpointError):
            await judge.verify(PROBLEM, "7", LABEL)
        assert (await judge.verify(PROBLEM, "7", LABEL)).kind == "scored"
    async with pool_over(await start_mock(faults=[Fault(route=CHAT, kind="status", code=400)])) as pool:
        with pytest.raises(EndpointError):
            await AnswerJudge(pool, "policy").verify(PROBLEM, "7", LABEL)


async def test_an_endpoint_that_takes_no_response_format_is_asked_in_words(start_mock: StartMock) -> None:
    """The mock answers by the schema that it is given, and without one with a sum that is no verdict."""
    refused = Fault(route=CHAT, kind="status", code=400, body="response_format is not supported by this model")
    async with pool_over(await start_mock(faults=[refused])) as pool:
        judge = AnswerJudge(pool, "policy")
        for num_asked in (NUM_ASKS, 2 * NUM_ASKS):
            assert (await judge.verify(PROBLEM, "7", LABEL)).kind == "error"
            assert judge.num_malformed == num_asked, "answered, in words"
        assert FORMAT in pool.endpoints[0].dialect.dropped
        assert pool.usage.total("succeeded", "judge") == 2 * NUM_ASKS


async def test_a_reply_cut_at_its_limit_is_malformed(start_mock: StartMock) -> None:
    async with pool_over(await start_mock()) as pool:
        judge = AnswerJudge(pool, "policy", max_tokens=8)
        assert (await judge.verify(PROBLEM, "7", LABEL)).kind == "error"
        assert judge.num_malformed == NUM_ASKS
