"""`eval` from the command line, and the reference client, against mock endpoints: what is asked, kept, compared and
refused."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from aiohttp import web

from pipeline.config.endpoints import EndpointSettings, RequestsSection
from pipeline.evaluation.folder import Answered, EvalFolder
from pipeline.inference.client import InferenceClient
from pipeline.types import Message
from servers.mock.endpoint import MockEndpoint, Settings
from tests.integration.command_line import Command
from tests.integration.conftest import StartMock
from tests.scripted_endpoint import serving

HELDOUT = ("--benchmark", "heldout")


async def num_asked(endpoint: EndpointSettings, route: str = "/v1/chat/completions") -> int:
    """Requests that the mock has seen."""
    async with httpx.AsyncClient() as client:
        counters = (await client.get(f"{endpoint.url}/_mock/counters")).json()
    return int(counters["requests"].get(route, 0))


def answers_in(folder: Path) -> list[Answered]:
    return list(EvalFolder(folder).answers())


async def test_an_endpoint_is_evaluated_and_each_answer_written(
    tmp_path: Path, repository: Path, start_mock: StartMock
) -> None:
    url = (await start_mock()).url
    prices = ("--prompt-price", "1", "--completion-price", "4")
    command = Command(tmp_path, repository, "eval", "--endpoint", url, *HELDOUT, "--limit", "12", "--out", "e", *prices)
    status, out, err = await command.run()
    assert status == 0, err
    report = json.loads((tmp_path / "e" / "report.json").read_text())
    answers = answers_in(tmp_path / "e")
    (row,) = report["rows"]
    assert row["num_problems"] == len(answers) == 12
    assert row["avg"][0] == sum(answer.verdict.correct for answer in answers) / 12
    assert row["avg"][1] < row["avg"][0] < row["avg"][2]
    assert "| heldout | zero-shot | 12 | 1 |" in out
    assert all(answer.inferred.turns[0].messages[0].role == "user" for answer in answers), "no system message of ours"
    spent = [
        (turn.num_prompt_tokens + 4 * turn.num_completion_tokens) / 1e6 for a in answers for turn in a.inferred.turns
    ]
    assert report["spent"][0]["cost"] == pytest.approx(sum(spent))
    assert report["rows"][0]["mean_cost"] == pytest.approx(sum(spent) / 12)
    assert f"tokens, cost {sum(spent):.4f}" in out
    assert (tmp_path / "e" / "report.md").read_text() in out
    assert all((tmp_path / "e" / name).stat().st_size > 1000 for name in ("accuracy.svg", "compute.svg"))


async def test_a_repeated_item_costs_nothing_and_more_of_it_only_what_is_new(
    tmp_path: Path, repository: Path, start_mock: StartMock
) -> None:
    endpoint = await start_mock()
    command = Command(tmp_path, repository, "eval", "--endpoint", endpoint.url, *HELDOUT, "--limit", "6", "--out", "e")
    asked = [await num_asked(endpoint)]
    for more in (
        (),
        (),
        ("--mode", "zero-shot,reflect"),
        ("--mode", "zero-shot,reflect", "--temperature", "1", "--n", "3"),
    ):
        status, _, err = await command.run(*more)
        assert status == 0, err
        asked.append(await num_asked(endpoint))
    new = [b - a for a, b in pairwise(asked)]
    # Greedy zero-shot; nothing; the critiques alone, because their first answers are known; three samples of both
    # modes.
    assert new == [6, 0, 6, 36]


async def test_benchmarks_and_settings_add_up_in_one_folder(
    tmp_path: Path, repository: Path, start_mock: StartMock
) -> None:
    for name, num in (("sums", 5), ("more", 3)):
        rows = [{"question": f"What is {n} + 3?", "answer": str(n + 3)} for n in range(num)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    endpoint = await start_mock(accuracy=1.0)
    command = Command(tmp_path, repository, "eval", "--endpoint", endpoint.url, "--out", "e")
    for more in (("sums.jsonl",), ("more.jsonl",), ("sums.jsonl", "--n", "2", "--limit", "4")):
        status, out, err = await command.run("--benchmark", *more)
        assert status == 0, err
    assert "sums, zero-shot: answers of another setting are in this folder; they stay, and are reported beside" in out
    assert "| sums | zero-shot (temperature 0) | 5 | 1 | 100.0%" in out
    assert "| sums | zero-shot (temperature 1) | 4 | 2 | 100.0%" in out
    assert "| more | zero-shot | 3 | 1 | 100.0%" in out
    assert len(answers_in(tmp_path / "e")) == 5 + 3 + 8
    assert await num_asked(endpoint) == 5 + 8, "a question that two benchmarks share is paid once"


async def test_another_model_at_the_same_address_gets_a_folder_of_its_own(tmp_path: Path, repository: Path) -> None:
    """Nobody names a model: it is what the endpoint says that it serves."""
    async with serving(MockEndpoint(Settings(model="first", root="/w/1")).application()) as url:
        command = Command(tmp_path, repository, "eval", "--endpoint", url, *HELDOUT, "--limit", "3")
        status, _, err = await command.run()
        assert status == 0, err
    async with serving(MockEndpoint(Settings(model="second", root="/w/2")).application(), int(url.rpartition(":")[2])):
        status, out, err = await command.run()
        assert status == 0, err
        assert "3 requests" in out
        status, _, err = await command.run("--out", "evals/first")
    assert status == 2
    assert "holds answers of url" in err
    assert "model 'first' root '/w/1', and this evaluation is of" in err
    assert [len(answers_in(tmp_path / "evals" / name)) for name in ("first", "second")] == [3, 3]


async def test_a_reasoning_models_cut_answers_are_wrong_ones_and_paid_once(tmp_path: Path, repository: Path) -> None:
    """As vLLM answers with a reasoning parser; and with the parameters of OpenAI's reasoning models alone."""
    bodies: list[dict[str, Any]] = []

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "thinker"}]})

    async def chat(request: web.Request) -> web.Response:
        body = await request.json()
        if "max_tokens" in body or "temperature" in body:
            name = "max_tokens" if "max_tokens" in body else "temperature"
            instead = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
            refusal = f"Unsupported parameter: '{name}' is not supported with this model.{instead}"
            return web.json_response({"error": {"message": refusal}}, status=400)
        bodies.append(body)
        cut = "What is 1 + 3?" in body["messages"][-1]["content"]
        content = None if cut else "\\boxed{3}"
        message = {"role": "assistant", "content": content, "reasoning_content": "Hm, 3 is"}
        choice = {"index": 0, "message": message, "finish_reason": "length" if cut else "stop"}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 30}})

    application = web.Application()
    application.router.add_get("/v1/models", models)
    application.router.add_post("/v1/chat/completions", chat)
    rows = [{"question": f"What is {n} + 3?", "answer": "3"} for n in range(4)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    async with serving(application) as url:
        arguments = ("--endpoint", url, "--benchmark", "sums.jsonl", "--out", "e")
        status, out, err = await Command(tmp_path, repository, "eval", *arguments).run()
    assert status == 0, err
    assert len(bodies) == 4
    assert {body["max_completion_tokens"] for body in bodies} == {4096}
    assert "| sums | zero-shot | 4 | 1 | 75.0% [30.1%, 95.4%] | 75.0% | 25.0% | 9 + 30 |" in out
    assert "refuses temperature: its answers are sampled with its own value" in out
    assert {answer.inferred.turns[0].reasoning for answer in answers_in(tmp_path / "e")} == {"Hm, 3 is"}


async def killed(command: Command, endpoint: EndpointSettings, after: int, number: signal.Signals) -> int:
    """Start the command, end it once the mock has seen `after` more requests; the exit status."""
    begin = await num_asked(endpoint)
    process = await command.start()
    while process.returncode is None and await num_asked(endpoint) - begin < after:  # noqa: ASYNC110 - another process asks
        await asyncio.sleep(0.02)
    if process.returncode is None:
        process.send_signal(number)
    await process.communicate()
    assert process.returncode is not None
    return process.returncode


@pytest.mark.parametrize("num_kills", [2, pytest.param(20, marks=pytest.mark.slow)])
async def test_a_killed_evaluation_repeats_no_reply_that_it_had(
    tmp_path: Path, repository: Path, start_mock: StartMock, num_kills: int
) -> None:
    """With SIGKILL at random moments: only what was in flight is asked again, and the end is that of an unbroken
    one."""
    endpoint = await start_mock(latency_s=0.05)
    concurrency, num_answers = 4, 2 * 4 * num_kills * 8
    arguments = (
        "--endpoint",
        endpoint.url,
        *HELDOUT,
        "--concurrency",
        str(concurrency),
        "--mode",
        "zero-shot,reflect",
        "--n",
        "4",
    )
    command = Command(tmp_path, repository, "eval", *arguments, "--limit", str(num_kills * 8), "--out", "e")
    rng = random.Random(0)
    begin = await num_asked(endpoint)
    for _ in range(num_kills):
        assert await killed(command, endpoint, rng.randrange(3, 20), signal.SIGKILL) == -signal.SIGKILL
    status, _, err = await command.run()
    assert status == 0, err
    asked = await num_asked(endpoint) - begin
    answers = answers_in(tmp_path / "e")
    assert len({(a.problem_id, a.mode, a.sample) for a in answers}) == len(answers) == num_answers
    print(f"{num_kills} kills, {asked} requests for {num_answers} answers, {concurrency} in flight")
    # Zero-shot's answer is also what reflect begins with.
    assert num_answers <= asked <= num_answers + num_kills * concurrency
    report = (tmp_path / "e" / "report.json").read_text()
    status, _, err = await command.run()
    assert status == 0, err
    assert await num_asked(endpoint) - begin == asked
    again = (tmp_path / "e" / "report.json").read_text()
    assert json.loads(again)["rows"] == json.loads(report)["rows"]


async def test_a_stopped_evaluation_keeps_what_is_in_flight_and_repeats_nothing(
    tmp_path: Path, repository: Path, start_mock: StartMock
) -> None:
    endpoint = await start_mock(latency_s=0.1)
    arguments = (
        "--endpoint",
        endpoint.url,
        *HELDOUT,
        "--concurrency",
        "4",
        "--mode",
        "zero-shot,reflect",
        "--limit",
        "20",
    )
    command = Command(tmp_path, repository, "eval", *arguments, "--out", "e")
    begin = await num_asked(endpoint)
    assert await killed(command, endpoint, 7, signal.SIGTERM) == 130
    assert 7 <= await num_asked(endpoint) - begin < 40
    status, _, err = await command.run()
    assert status == 0, err
    assert await num_asked(endpoint) - begin == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mode", "retrieval"), "name the run whose pool holds them with --pool RUN"),
        (("--mode", "few-shot"), "eval.modes.0 = 'few-shot'"),
        (("--n", "4", "--temperature", "0"), "num_samples = 4 at temperature = 0 would be the same answer each time"),
        (("--benchmark", "gsm9k"), "did you mean gsm8k"),
        (("--benchmark", "gsm8k", "--data", "."), "gsm8k"),
        (("--model", "none-such"), "serves ['policy']"),
        (("--compare", "evals"), "there is no evaluation in this folder"),
        (("--run-folder", "nowhere"), "give one of them"),
        (("--benchmark", "a/test.jsonl,b/test.jsonl"), "two that are called 'test'"),
    ],
)
async def test_a_mistake_is_named_with_its_remedy(
    tmp_path: Path, repository: Path, start_mock: StartMock, arguments: tuple[str, ...], message: str
) -> None:
    command = Command(
        tmp_path, repository, "eval", "--endpoint", (await start_mock()).url, *HELDOUT, "--out", "e", "--limit", "2"
    )
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        (folder / "test.jsonl").write_text('{"question": "What is 3 + 4?", "answer": "7"}\n')
    status, _, err = await command.run(*arguments)
    assert status == 2, err
    assert message in err


async def test_a_benchmark_file_is_asked_and_another_model_needs_another_folder(
    tmp_path: Path, repository: Path, start_mock: StartMock
) -> None:
    rows = [{"question": f"What is {n} + 3?", "answer": str(n + 3)} for n in range(5)]
    (tmp_path / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    command = Command(tmp_path, repository, "eval", "--benchmark", "sums.jsonl", "--out", "e")
    status, out, err = await command.run("--endpoint", (await start_mock(accuracy=1.0)).url)
    assert status == 0, err
    assert "| sums | zero-shot | 5 | 1 | 100.0% [56.6%, 100.0%] |" in out
    status, _, err = await command.run("--endpoint", (await start_mock()).url)
    assert status == 2
    assert "holds answers of url 'http://127.0.0.1:" in err
    assert "add --moved; else choose another --out" in err
    other = Command(tmp_path, repository, "eval", "--benchmark", "sums.jsonl", "--out", "e2", "--compare", "e")
    status, out, err = await other.run("--endpoint", (await start_mock(accuracy=0.0)).url)
    assert status == 0, err
    assert "| sums | e2 (zero-shot) | e (zero-shot) | avg@1 | -100.0 |" in out


async def test_answers_that_could_not_be_had_are_told_and_asked_for_again(
    tmp_path: Path, repository: Path, start_mock: StartMock
) -> None:
    endpoint = await start_mock()
    command = Command(
        tmp_path,
        repository,
        "eval",
        "--endpoint",
        endpoint.url,
        *HELDOUT,
        "--limit",
        "6",
        "--out",
        "e",
        "--concurrency",
        "1",
    )
    plan: list[dict[str, Any]] = [{"kind": "status", "code": 400, "count": 2}]
    async with httpx.AsyncClient() as client:
        (await client.post(f"{endpoint.url}/_mock/faults", json=plan)).raise_for_status()
    status, out, err = await command.run()
    assert status == 1, err
    assert "2 answers could not be had (http_400 2) and count as wrong; without them avg is" in out
    (row,) = json.loads((tmp_path / "e" / "report.json").read_text())["rows"]
    assert (row["num_problems"], row["avg"][3], row["avg_answered"][3]) == (6, 6, 4)
    assert row["avg"][0] == pytest.approx(row["avg_answered"][0] * 4 / 6)
    status, out, err = await command.run()
    assert status == 0, err
    assert "2 requests" in out


async def test_an_endpoint_that_answers_nothing_is_a_failure(
    tmp_path: Path, repository: Path, start_mock: StartMock
) -> None:
    endpoint = await start_mock()
    async with httpx.AsyncClient() as client:
        plan = [{"kind": "status", "code": 401, "count": 99}]
        (await client.post(f"{endpoint.url}/_mock/faults", json=plan)).raise_for_status()
    status, _, err = await Command(
        tmp_path, repository, "eval", "--endpoint", endpoint.url, *HELDOUT, "--limit", "6", "--out", "e"
    ).run()
    assert status == 1
    assert "failed: HTTP 401" in err


async def test_a_judge_is_measured_and_not_asked_twice(tmp_path: Path, repository: Path, start_mock: StartMock) -> None:
    endpoint, judge = await start_mock(), await start_mock()
    command = Command(
        tmp_path,
        repository,
        "eval",
        "--endpoint",
        endpoint.url,
        *HELDOUT,
        "--limit",
        "5",
        "--out",
        "e",
        "--judge",
        judge.url,
    )
    status, out, err = await command.run()
    assert status == 0, err
    assert "labelled answers, kappa" in out
    assert "the judge agrees with the verifier on" in out
    asked = await num_asked(judge)
    assert asked > 5
    status, _, err = await command.run()
    assert status == 0, err
    assert await num_asked(judge) - asked <= 1, "its start-up check alone"


async def test_an_endpoint_that_is_down_ends_the_command_with_status_2(tmp_path: Path, repository: Path) -> None:
    status, _, err = await Command(tmp_path, repository, "eval", "--endpoint", "http://127.0.0.1:9", *HELDOUT).run()
    assert status == 2
    assert "error: endpoint http://127.0.0.1:9 does not answer" in err


async def test_the_reference_client_reads_the_same_answer(start_mock: StartMock) -> None:
    settings = await start_mock()
    question = "What is 12 + 35 ="
    async with InferenceClient((settings,), "policy", RequestsSection()) as pool:
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
