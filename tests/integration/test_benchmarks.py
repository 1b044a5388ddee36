"""Every script of benchmarks/ runs: in its small form it yields rows, and their numbers are finite.

A new script is found by its file. It offers `main(arguments) -> int` and takes `--small` and `--out FILE`, for which
`benchmarks.script.Benchmark` suffices."""

from __future__ import annotations

import ast
import importlib
import json
import math
from pathlib import Path

import pytest

from benchmarks.script import TANTIVY, VERIFIERS, WRK

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
# What scripts share or start; measures nothing by itself.
HELPERS = {
    "__init__",
    "canned",
    "changed_forms",
    "child",
    "clients",
    "equal_forms",
    "families",
    "gold_text",
    "loop",
    "machine",
    "peers",
    "pool_texts",
    "public_golds",
    "script",
    "tantivy_peer",
    "training_child",
    "verifiers_peer",
}
SCRIPTS = sorted({path.stem for path in FOLDER.glob("*.py")} - HELPERS)
PEERS = {"requests": [WRK], "in_flight": [WRK], "rollouts": [WRK, VERIFIERS], "pool": [TANTIVY]}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_in_its_small_form(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    assert importlib.import_module(f"benchmarks.{name}").main(["--small", "--out", str(out)]) == 0
    rows = json.loads(out.read_text(encoding="utf-8"))
    assert rows and all(rows)
    numbers = [value for row in rows for value in row.values() if isinstance(value, int | float)]
    assert numbers and all(map(math.isfinite, numbers)), rows
    skipped = {line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("skipped: ")}
    assert skipped == {peer.name for peer in PEERS.get(name, []) if not peer.is_installed()}


@pytest.mark.parametrize("name", sorted(HELPERS - {"__init__"}))
def test_a_helper_is_no_script_and_serves_one(name: str) -> None:
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    if name != "script":
        assert "Benchmark(" not in source
    others = [path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py") if path.stem != name]
    assert any(f"benchmarks.{name}" in other or f'"{name}:' in other for other in others)
    ast.parse(source)
