"""`eval` from the command line, and the reference client, against a mock endpoint."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import openai

from pipeline.config import RequestsSection
from pipeline.endpoints import EndpointPool
from pipeline.evaluate import read_answers
from pipeline.records import Message
from tests.integration.conftest import StartMock


async def run(*arguments: str, cwd: Path, repository: Path) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline.orchestrate", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=cwd, env={"PYTHONPATH": str(repository), "PATH": ""},
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_an_endpoint_is_evaluated_and_each_answer_written(
    tmp_path: Path, repository: Path, start_mock: StartMock
) -> None:
    endpoints = json.dumps([{"url": (await start_mock()).url}])
    arguments = ("eval", "--endpoints", endpoints, "--eval.num_problems", "12", "--out", "answers.jsonl")
    status, out, err = await run(*arguments, cwd=tmp_path, repository=repository)
    assert status == 0, err
    report = json.loads(out.splitlines()[-1])
    answers = read_answers(tmp_path / "answers.jsonl")
    assert report["num_problems"] == len(answers) == 12
    assert report["num_correct"] == sum(answer.verdict.correct for answer in answers)
    assert report["interval"][0] <= report["accuracy"] <= report["interval"][1]


async def test_an_endpoint_that_is_down_ends_the_command_with_status_2(tmp_path: Path, repository: Path) -> None:
    status, _, err = await run(
        "eval", "--endpoints", '[{"url": "http://127.0.0.1:9"}]', cwd=tmp_path, repository=repository
    )
    assert status == 2
    assert "error: endpoint http://127.0.0.1:9 does not answer" in err


async def test_the_reference_client_reads_the_same_answer(start_mock: StartMock) -> None:
    settings = await start_mock()
    question = "What is 12 + 35 ="
    async with EndpointPool((settings,), "policy", RequestsSection()) as pool:
        ours = await pool.chat((Message(role="user", content=question),), max_tokens=32, temperature=0.0, stage="eval")
    async with openai.AsyncOpenAI(base_url=f"{settings.url}/v1", api_key="none", max_retries=0) as client:
        theirs = await client.chat.completions.create(
            model="policy", messages=[{"role": "user", "content": question}], max_tokens=32, temperature=0.0
        )
    assert theirs.usage is not None
    assert (ours.text, ours.finish_reason) == (theirs.choices[0].message.content, theirs.choices[0].finish_reason)
    assert (ours.num_prompt_tokens, ours.num_completion_tokens) == (
        theirs.usage.prompt_tokens,
        theirs.usage.completion_tokens,
    )
