"""Start-up checks: each planted fault is found by its message, before anything is started."""

from __future__ import annotations

import shutil
import socket
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.doctor import check_machine, doctor
from pipeline.config import Config
from pipeline.errors import ConfigError, UserError
from pipeline.preflight.machine import CHECKS
from pipeline.rewards.code import preflight

SMALL = {"problems": {"num_train": 16, "num_heldout": 8}, "eval": {"num_problems": 8}}


def config(root: Path, **sections: Any) -> Config:
    """Sums of two terms are all alike, so that no gamma suits them: nothing is retrieved."""
    return Config.model_validate({**SMALL, "feedback": {"ratio": 0.0}, **sections, "run": {"root": root}})


def test_a_sound_machine_is_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(config(tmp_path)) == 0
    assert capsys.readouterr().out.endswith("ready\n")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"path": "./nowhere"}}, r"model\.path = './nowhere': no such folder"),
        (
            {"endpoints": [{"url": "http://x", "api_key_env": "NO_SUCH_KEY"}]},
            "NO_SUCH_KEY that should hold its key is not set",
        ),
        (
            {"servers": {"dtype": "float32", "extra_args": ["--dtype", "bfloat16"]}},
            r"extra_args has --dtype bfloat16, but servers\.dtype = 'float32'",
        ),
        ({"servers": {"extra_args": ["--host=0.0.0.0"]}}, r"extra_args has --host 0\.0\.0\.0: anyone"),
        (
            {"servers": {"max_model_len": 128}, "rollout": {"sampling": {"max_tokens": 128}}},
            r"rollout\.sampling\.max_tokens = 128 leaves no tokens for a prompt within servers\.max_model_len = 128",
        ),
        (
            {"servers": {"max_model_len": 100}, "abstraction": {"max_tokens": 160}},
            r"abstraction\.max_tokens = 160 leaves no tokens",
        ),
        ({"endpoints": [{"url": "http://x:1"}, {"url": "http://x:1/v1"}]}, "endpoints names http://x:1 twice"),
        ({"endpoints": [{"url": "http://x:1", "max_concurrency": 10**9}]}, "but this machine allows [0-9]+ open files"),
        ({"servers": {"gpu_ids": ["0"]}}, r"servers\.gpu_ids = \['0'\]: there is no GPU here"),
        ({"servers": {"kv_cache_gib": 1e6}}, r"servers\.kv_cache_gib = 1000000\.0 for 1 server\(s\) exceeds"),
        ({"reward": {"scorer": "no_such_module:score"}}, "no_such_module"),
        ({"learner": {"report_to": ["wandb"]}}, "WANDB_API_KEY is not set"),
        ({"problems": {**SMALL["problems"], "source": "jsonl", "train_file": "nowhere.jsonl"}}, r"nowhere\.jsonl"),
        ({"problems": {**SMALL["problems"], "families": [{"name": "chain_summ"}]}}, "chain_sum"),
    ],
)
def test_a_planted_fault_is_named(
    tmp_path: Path,
    sections: dict[str, Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    wrong = config(tmp_path, **sections)
    with pytest.raises(UserError, match=message):
        check_machine(wrong)
    assert doctor(wrong) == 2
    assert "FAILED" in capsys.readouterr().out


CODE = {"problems": {**SMALL["problems"], "source": "procedural_code", "families": []}, "sft": {"enabled": False}}


@pytest.mark.parametrize(
    ("sections", "walls", "message"),
    [
        (
            {},
            "there are no walls",
            r"reward\.scorer = 'auto': problem '\w+-\w+' asks for a program, but there are no walls",
        ),
        (
            {"reward": {"scorer": "code"}},
            "there are no walls",
            r"reward\.scorer = 'code': problem .* there are no walls",
        ),
        ({"reward": {"scorer": "math"}}, None, r"reward\.scorer = 'math': .*use 'auto' or 'code'"),
        (
            {"reward": {"scorer": "code"}, "problems": SMALL["problems"]},
            None,
            r"'code': problem 'chain_sum-.* no tests",
        ),
    ],
)
def test_programs_that_cannot_be_judged_are_refused_before_anything_starts(
    tmp_path: Path, sections: dict[str, Any], walls: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "isolation_problem", lambda packages: walls)
    with pytest.raises(ConfigError, match=message):
        check_machine(config(tmp_path, **{**CODE, **sections}))


def test_answers_need_no_sandbox_and_programs_may_have_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "isolation_problem", lambda packages: "there are no walls")
    check_machine(config(tmp_path))
    monkeypatch.setattr(preflight, "isolation_problem", lambda packages: None)
    check_machine(config(tmp_path, **CODE))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("servers", r"servers\.port = {port}: the port is in use.*0 for a free one"),
        ("operations", r"operations\.port = {port}: the port is in use"),
    ],
)
def test_a_port_in_use_is_named_with_the_remedy(tmp_path: Path, section: str, message: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=message.format(port=port)):
            check_machine(config(tmp_path, **{section: {"port": port}}))


def test_too_little_space_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 2**40 - 2**30, 2**30))
    with pytest.raises(UserError, match=r"1\.0 GiB free, 6\.0 needed"):
        check_machine(config(tmp_path))


def test_insecure_serialization_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
    with pytest.raises(UserError, match="VLLM_ALLOW_INSECURE_SERIALIZATION is set"):
        check_machine(config(tmp_path))


@pytest.mark.parametrize(
    ("sections", "environment", "message"),
    [
        ({"servers": {"dtype": "bfloat16"}}, {}, "types agree: servers.dtype = 'bfloat16' rounds the weights"),
        ({"rollout": {"sampling": {"top_p": 0.9}}}, {}, "sampling: rollout.sampling cuts by top_p"),
        ({}, {"HTTP_PROXY": "http://proxy:3128"}, "proxies: HTTP_PROXY is set and NO_PROXY does not name 127.0.0.1"),
        ({"model": {"path": "Qwen/Qwen2.5-0.5B-Instruct"}}, {"HF_HUB_OFFLINE": "1"}, "hub: model.path = 'Qwen/"),
    ],
)
def test_a_doubt_is_said_and_does_not_stop_a_run(
    tmp_path: Path, sections: dict[str, Any], environment: dict[str, str], message: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    doubtful = config(tmp_path, **sections)
    check_machine(doubtful)
    assert doctor(doubtful) == 0
    shown = capsys.readouterr().out
    assert f"warn    {message}" in shown
    assert "ready (1 to think about)" in shown
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if environment.get("HTTP_PROXY"):
        doctor(doubtful)
        assert "proxies: " not in capsys.readouterr().out


@pytest.mark.parametrize("path", ["embedded", "small"])
def test_a_model_that_is_made_here_needs_no_hub(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert dict(CHECKS)["hub"](config(tmp_path, model={"path": path})) is None
