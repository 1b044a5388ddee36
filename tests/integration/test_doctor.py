"""What `doctor` finds wrong with endpoints that run already: each fault is planted, and a sound endpoint passes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.preflight.endpoints import Finding, findings
from tests.integration.command_line import Command
from tests.integration.conftest import StartMock
from tests.integration.test_faults import control

KEY_ENV = "LANPO_TEST_KEY"


def config(*endpoints: dict[str, Any], **sections: Any) -> Config:
    return Config.model_validate({"endpoints": endpoints, **sections})


def shown(found: list[Finding]) -> str:
    return "\n".join(f"{finding.state} {finding.message}" for finding in found)


async def test_a_sound_endpoint_passes(start_mock: StartMock) -> None:
    found = await findings(config({"url": (await start_mock()).url}))
    assert [finding.state for finding in found] == ["ok"], shown(found)


@pytest.mark.parametrize(
    ("mock", "named", "message"),
    [
        ({"model": "policy-2"}, {}, "FAILED it has no model 'policy', it serves ['policy-2']; did you mean 'policy-2'?"),
        ({"hide_token_ids": True}, {}, "returns no token ids"),
        ({"faults": [{"kind": "missing_logprobs", "count": 9}]}, {}, "returns no log-probabilities"),
        ({"raw_logprobs": True}, {}, "report"),
        ({"token_ids": False}, {}, "has no /weight_info"),
        ({"api_key": "right"}, {}, "FAILED it answers 401 to a request without a key; name the environment variable"),
        ({"api_key": "right"}, {"api_key_env": KEY_ENV}, f"FAILED it answers 401 to a request with a key; check the key in {KEY_ENV}"),
        ({"max_model_len": 48}, {}, "FAILED its max_model_len = 48 leaves no tokens for a prompt beside rollout.sampling.max_tokens"),
    ],
)  # fmt: skip
async def test_a_planted_fault_is_named(
    start_mock: StartMock, monkeypatch: pytest.MonkeyPatch, mock: dict[str, Any], named: dict[str, Any], message: str
) -> None:
    monkeypatch.setenv(KEY_ENV, "wrong")
    found = await findings(config({"url": (await start_mock(**mock)).url, **named}))
    assert message in shown(found)
    assert "FAILED" in {finding.state for finding in found}


async def test_a_right_key_opens(start_mock: StartMock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, "right")
    found = await findings(config({"url": (await start_mock(api_key="right")).url, "api_key_env": KEY_ENV}))
    assert [finding.state for finding in found] == ["ok"], shown(found)


async def test_endpoints_that_are_down_cost_no_more_than_one(start_mock: StartMock) -> None:
    async with asyncio.timeout(10):
        found = await findings(config(*({"url": f"http://127.0.0.1:{port}"} for port in (9, 11, 13))))
    assert shown(found).count("FAILED it does not answer") == 3


async def test_an_endpoint_that_loads_no_adapters_is_named_where_they_are_wanted(
    tmp_path: Path, start_mock: StartMock
) -> None:
    wanted: dict[str, Any] = {"learner": {"transfer": "lora", "lora": {"rank": 4}}, "run": {"root": tmp_path}}
    found = await findings(config({"url": (await start_mock()).url}, **wanted))
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora --max-loras 2 --max-lora-rank 8" in shown(found)
    found = await findings(config({"url": (await start_mock(max_lora_rank=8)).url}, **wanted))
    assert [finding.state for finding in found] == ["ok"], shown(found)


async def test_a_paused_endpoint_is_named(start_mock: StartMock) -> None:
    url = (await start_mock()).url
    await control(url, "/pause")
    assert "FAILED it is paused" in shown(await findings(config({"url": url})))


async def test_control_routes_beyond_loopback_are_doubted(start_mock: StartMock) -> None:
    beyond = (await start_mock()).url.replace("127.0.0.1", "0.0.0.0")
    found = await findings(config({"url": beyond}))
    assert "warn its control routes" in shown(found)
    assert "FAILED" not in shown(found)


async def test_endpoints_that_differ_are_doubted(start_mock: StartMock) -> None:
    first, second = (await start_mock()).url, (await start_mock(max_model_len=4096)).url
    await control(first, "/update_weight_version", {"new_version": "l0-s000003"})
    found = shown(await findings(config({"url": first}, {"url": second})))
    assert "warn they serve weights of different versions" in found
    assert "warn they serve different max_model_len" in found


async def test_an_embedder_needs_to_embed_and_nothing_else(start_mock: StartMock) -> None:
    def with_embedder(url: str) -> Config:
        endpoint = {"url": url, "model": "embedder"}
        return Config.model_validate({"feedback": {"similarity": "embedding", "similarity_endpoint": endpoint}})

    mock = await start_mock(token_ids=False, model="embedder")
    assert [finding.state for finding in await findings(with_embedder(mock.url))] == ["ok"]
    (finding,) = await findings(with_embedder("http://127.0.0.1:9"))
    assert finding.state == "FAILED"
    assert "does not embed texts" in finding.message


async def test_a_summarizer_needs_no_training_routes(start_mock: StartMock) -> None:
    plain = {"url": (await start_mock(token_ids=False)).url}
    found = await findings(config(abstraction={"endpoint": plain}))
    assert [finding.state for finding in found] == ["ok"], shown(found)


async def test_the_command_ends_with_status_2(start_mock: StartMock, tmp_path: Path, repository: Path) -> None:
    words = ("doctor", "--run.root", str(tmp_path), "--endpoints", '[{"url": "http://127.0.0.1:9"}]')
    status, out, _ = await Command(tmp_path, repository, *words).run()
    assert status == 2
    assert "FAILED  endpoint http://127.0.0.1:9: it does not answer" in out
