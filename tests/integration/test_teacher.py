"""Pairs from a teacher: verified, bounded, resumable, and what they cost (the mock endpoint is right as often as it is
told to be)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.config.endpoints import EndpointSettings
from pipeline.errors import DataError, FinalEndpointError
from pipeline.inference.capabilities import check_endpoint
from pipeline.inference.client import client_of
from pipeline.problems.dataset import load_problems
from pipeline.rewards.verifier import Verifier
from pipeline.sft.data_card import Teaching, card
from pipeline.sft.stage import taught
from pipeline.sft.teacher import Lines, teach
from prompts.schemas import reply_type
from tests.integration.conftest import StartMock
from tests.integration.test_faults import control

NUM = 60


def config_of(teacher: EndpointSettings, **sft: Any) -> Config:
    return Config.model_validate(
        {
            "problems": {"num_train": 80, "num_heldout": 16},
            "eval": {"num_problems": 16},
            "sft": {"num_teacher_pairs": NUM, "teacher_max_tokens": 2000, "teacher": teacher.model_dump(), **sft},
            "requests": {"backoff_s": 0.01},
            "rollout": {"sampling": {"seeded": True}},
        }
    )


async def pairs_of(config: Config, path: Path) -> tuple[list[dict[str, Any]], dict[str, dict[str, int]], int]:
    """The pairs, what became of all that was asked for, and the requests that were made."""
    problems = load_problems(config.problems, 0)
    assert config.sft.teacher is not None
    lines = Lines(path)
    async with client_of(config, (config.sft.teacher,)) as pool, Verifier(config.reward) as verifier:
        await check_endpoint(pool, pool.endpoints[0], training=False)
        before = pool.usage.total("requests")
        pairs = await teach(config, problems.train, problems.heldout_hashes, pool, verifier, lines)
        return pairs, lines.counts(), pool.usage.total("requests") - before


async def test_pairs_are_right_in_their_shares_and_hold_no_label(tmp_path: Path, start_mock: StartMock) -> None:
    config = config_of(await start_mock(accuracy=0.5))
    pairs, counts, _ = await pairs_of(config, tmp_path / "t.jsonl")
    shares = Counter(pair["skill"] for pair in pairs)
    assert len(pairs) == NUM
    assert shares == {"respond": 42, "inspect": 12, "summarise": 6}
    tasks = {task.problem.id: task for task in load_problems(config.problems, 0).train}
    async with Verifier(config.reward) as verifier:
        for pair in pairs:
            system, user, assistant = (message["content"] for message in pair["messages"])
            task = tasks[pair["problem_id"]]
            assert system == config.rollout.system_prompt and task.problem.text in user
            if pair["skill"] == "summarise":
                reply_type(config.lesson_sizes).model_validate_json(assistant)
            else:
                assert (await verifier.verify(assistant, task)).correct
    left_out = Counter[str]()
    for found in counts.values():
        left_out.update(found)
    assert left_out["kept"] == NUM and left_out["wrong"] > 0


async def test_started_again_nothing_that_was_answered_is_asked_for_again(
    tmp_path: Path, start_mock: StartMock
) -> None:
    teacher = await start_mock(accuracy=0.8)
    config, path = config_of(teacher), tmp_path / "t.jsonl"
    pairs, _, num_requests = await pairs_of(config, path)
    lines = path.read_bytes().splitlines(keepends=True)
    num_asked = sum(json.loads(line)["num_asked"] for line in lines)
    assert num_requests >= num_asked
    # A crash in the middle of a line; then the endpoint is given a little to do only.
    path.write_bytes(b"".join(lines[: NUM // 2]) + lines[NUM // 2][:-1])
    again, _, num_more = await pairs_of(config, path)
    assert num_more < num_requests
    assert again == pairs, "an endpoint that repeats itself gives the same pairs"
    _, _, none = await pairs_of(config, path)
    assert none == 0


async def test_a_teacher_that_is_seldom_right_is_named_and_its_pairs_are_kept(
    tmp_path: Path, start_mock: StartMock
) -> None:
    config, path = config_of(await start_mock(accuracy=0.0), respond_share=0.9, inspect_share=0.1), tmp_path / "t.jsonl"
    with pytest.raises(ExceptionGroup) as caught:
        await pairs_of(config, path)
    assert caught.group_contains(
        DataError, match="only 0 of 60 pairs were right, with 3 problems tried for each: .*wrong"
    )
    assert len(path.read_bytes().splitlines()) == 3 * NUM
    # The remedy: more attempts are made, by a teacher who is better by now, at what was tried before.
    assert config.sft.teacher is not None
    better = (await start_mock(accuracy=1.0)).base_url
    more = {"teacher": config.sft.teacher.model_copy(update={"url": better}), "teacher_attempts": 9}
    pairs, _, _ = await pairs_of(config.model_copy(update={"sft": config.sft.model_copy(update=more)}), path)
    assert len(pairs) == NUM


async def test_what_an_endpoint_failed_to_answer_is_asked_for_again(tmp_path: Path, start_mock: StartMock) -> None:
    """An outage is no judgement of a pair: the next session finds its number open."""
    teacher = await start_mock(accuracy=1.0)
    config, path = config_of(teacher, teacher_attempts=1), tmp_path / "t.jsonl"
    config = config.model_copy(update={"requests": config.requests.model_copy(update={"max_attempts": 1})})
    fault = {"route": "/v1/chat/completions", "kind": "status", "code": 503, "count": 10}
    problems = load_problems(config.problems, 0)
    lines = Lines(path)
    async with client_of(config, (teacher,)) as pool, Verifier(config.reward) as verifier:
        await control(teacher.url, "/_mock/faults", [fault])
        await teach(config, problems.train, problems.heldout_hashes, pool, verifier, lines)
    lost = sum(taught.lost for taught in lines.found.values())
    assert lost > 0
    written = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert not any(line["reason"].startswith("http_") or line["lost"] for line in written)


async def test_an_empty_account_ends_it_at_once_and_what_was_paid_for_is_kept(
    tmp_path: Path, start_mock: StartMock
) -> None:
    teacher = await start_mock(accuracy=1.0)
    config, path = config_of(teacher.model_copy(update={"max_concurrency": 1})), tmp_path / "t.jsonl"
    quota = {
        "route": "/v1/chat/completions",
        "kind": "status",
        "code": 429,
        "body": "insufficient_quota",
        "count": 1000,
    }
    pairs, _, _ = await pairs_of(config, path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[: NUM // 2]))
    problems = load_problems(config.problems, 0)
    lines = Lines(path)
    async with client_of(config, (teacher,)) as pool, Verifier(config.reward) as verifier:
        await control(teacher.url, "/_mock/faults", [quota])
        with pytest.raises(ExceptionGroup) as caught:
            await teach(config, problems.train, problems.heldout_hashes, pool, verifier, lines)
    assert caught.group_contains(FinalEndpointError, match="quota")
    assert len(path.read_bytes().splitlines()) >= NUM // 2
    assert len(pairs) == NUM


async def test_cost_is_summed_over_sessions_and_the_card_tells_it(
    tmp_path: Path, start_mock: StartMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANPO_CACHE", str(tmp_path))
    teacher = (await start_mock(accuracy=0.5)).model_copy(update={"prompt_price": 1.0, "completion_price": 2.0})
    config, said = config_of(teacher), list[str]()
    teaching = await taught(config, load_problems(config.problems, 0), said.append)
    assert isinstance(teaching, Teaching) and len(teaching.pairs) == NUM
    tokens = teaching.cost
    assert tokens["cost"] == pytest.approx((tokens["prompt_tokens"] + 2 * tokens["completion_tokens"]) / 1e6)
    assert said[0].startswith("teacher: 0 of 60") and "60 pairs" in said[-1] and "cost" in said[-1]
    again = await taught(config, load_problems(config.problems, 0), said.append)
    assert again == teaching, "nothing more was asked or paid for"
    text = card(config, [], teaching)
    assert "| respond | 0 | 42 |" in text
    assert f"{tokens['requests']:.0f} requests" in text and teaching.digest in text
