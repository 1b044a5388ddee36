"""Start-up checks: each planted fault is found by its message, before anything is started."""

from __future__ import annotations

import shutil
import socket
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from pipeline.commands.doctor import check_machine, doctor_command
from pipeline.config import Config
from pipeline.errors import UserError

SMALL = {"problems": {"num_train": 16, "num_heldout": 8}, "eval": {"num_problems": 8}}


def config(root: Path, **sections: Any) -> Config:
    return Config.model_validate({**SMALL, **sections, "run": {"root": root}})


def test_a_sound_machine_is_ready(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor_command(config(tmp_path)) == 0
    assert capsys.readouterr().out.endswith("ready\n")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"path": "./nowhere"}}, r"model\.path = './nowhere': no such folder"),
        (
            {"endpoints": [{"url": "http://x", "api_key_env": "NO_SUCH_KEY"}]},
            "NO_SUCH_KEY that should hold its key is not set",
        ),
        ({"problems": {**SMALL["problems"], "source": "jsonl", "train_file": "nowhere.jsonl"}}, r"nowhere\.jsonl"),
        ({"problems": {**SMALL["problems"], "families": [{"name": "chain_summ"}]}}, "chain_sum"),
    ],
)
def test_a_planted_fault_is_named(
    tmp_path: Path, sections: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = config(tmp_path, **sections)
    with pytest.raises(UserError, match=message):
        check_machine(wrong)
    assert doctor_command(wrong) == 2
    assert "FAILED" in capsys.readouterr().out


def test_a_port_in_use_is_named_with_the_remedy(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"servers\.port = {port}: the port is in use.*0 for a free one"):
            check_machine(config(tmp_path, servers={"port": port}))


def test_too_little_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 2**40 - 2**30, 2**30))
    with pytest.raises(UserError, match=r"1\.0 GiB free, 6\.0 needed"):
        check_machine(config(tmp_path))


def test_insecure_serialization_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
    with pytest.raises(UserError, match="VLLM_ALLOW_INSECURE_SERIALIZATION is set"):
        check_machine(config(tmp_path))
