"""Who may import whom, and that the root command stays light (docs/design.md)."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.config.loading import load_recipe

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("pipeline", "prompts", "servers", "trainer")
HEAVY = ("torch", "vllm", "trl", "transformers", "lancedb", "datasets", "reasoning_gym", "openai")
RECIPES = sorted(path.stem for path in (ROOT / "pipeline" / "config" / "recipes").glob("*.toml"))

# What servers and trainer may import of pipeline: the contract between the kinds of process.
CONTRACT = frozenset(
    f"pipeline.{name}"
    for name in (
        "config",
        "section",
        "records",
        "errors",
        "run",
        "store",
        "claim",
        "journal",
        "weights",
        "canary",
        "metrics",
        "checkpoints",
        "process",
        "changes",
        "control",
        "lora",
    )
)
STORES = {"pool.py", "journal.py", "store.py"}
NOT_IN_PIPELINE = {"torch", "vllm", "trl", "transformers"}
MAX_START_S = 1.0


def imported(source: str, package: str = "") -> set[str]:
    """Every module that `source` imports at any depth, dotted; a relative import is resolved against `package`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            # `from pipeline import config` names a module, `from pipeline.config.root import Config` a member of one.
            names.update(f"{base}.{alias.name}" if base in ROOMS else base for alias in node.names)
    return names


def violations(path: Path, source: str) -> list[str]:
    """Imports of the file at `path` (relative to the root) that its room may not make."""
    room = path.parts[0]
    found = []
    for name in sorted(imported(source, ".".join(path.parent.parts))):
        other = name.partition(".")[0]
        if other in ROOMS and other != room:
            module = ".".join(name.split(".")[:2])
            allowed = other == "prompts" or (room in ("servers", "trainer") and module in CONTRACT)
            if room == "prompts" or not allowed:
                found.append(f"{path}: {room} may not import {name}")
        if other == "lancedb" and not (room == "pipeline" and path.name in STORES):
            found.append(f"{path}: only {' and '.join(sorted(STORES))} of pipeline import lancedb")
        if room == "pipeline" and other in NOT_IN_PIPELINE:
            found.append(f"{path}: pipeline may not import {other}")
    return found


def sources() -> list[Path]:
    return sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=str)
def test_rooms_import_only_what_they_may(path: Path) -> None:
    assert violations(path, (ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("prompts/render.py", "from pipeline.types import Problem"),
        ("prompts/render.py", "import trainer"),
        ("pipeline/observability/live_view.py", "import servers.launch"),
        ("pipeline/commands/train.py", "def f():\n    from trainer import learner"),
        ("pipeline/observability/live_view.py", "import torch.nn"),
        ("pipeline/loop/rollouts.py", "import lancedb"),
        ("servers/launch.py", "from trainer.grpo import Trainer"),
        ("servers/launch.py", "from pipeline.loop.rollouts import sample"),
        ("trainer/grpo.py", "from pipeline import scheduler"),
        ("trainer/grpo.py", "import lancedb"),
        ("pipeline/commands/train.py", "from ...trainer import learner"),
    ],
)
def test_a_forbidden_import_is_found(path: str, source: str) -> None:
    assert len(violations(Path(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "pipeline/experience/pool.py",
            "import lancedb\nfrom prompts.schemas import Lesson\nfrom pipeline.loop.scheduler import x",
        ),
        ("pipeline/commands/train.py", "from ..config import Config\nfrom . import evaluate"),
        (
            "trainer/learner.py",
            "import torch\nfrom pipeline import config\nfrom pipeline.storage.journal import Journal",
        ),
        ("servers/launch.py", "from pipeline.runtime.child_process import start\nfrom servers.embedded import prepare"),
    ],
)
def test_an_allowed_import_passes(path: str, source: str) -> None:
    assert violations(Path(path), source) == []


def start_s(*arguments: str) -> tuple[float, str]:
    """Least wall-clock seconds of three starts of this Python with `arguments`, and what the last one printed."""
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        result = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
        seconds.append(time.perf_counter() - begin)
        assert result.returncode == 0, result.stderr
    return min(seconds), result.stdout


# Run as __main__ or imported: either way, what ends up in sys.modules is what the start paid for.
LOADED = """
import json, runpy, sys
if sys.argv[1] == "import":
    import pipeline.orchestrate
else:
    sys.argv[1:] = ["--help"]
    try:
        runpy.run_module("pipeline.orchestrate", run_name="__main__")
    except SystemExit as end:
        assert not end.code, end.code
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.parametrize("how", ["import", "help"])
def test_the_root_command_loads_nothing_heavy(how: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LOADED, how], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(json.loads(result.stdout.splitlines()[-1]))
    assert "pipeline" in loaded
    assert loaded.isdisjoint(HEAVY), loaded.intersection(HEAVY)


@pytest.mark.parametrize("arguments", [("-c", "import pipeline.orchestrate"), ("-m", "pipeline.orchestrate", "--help")])
def test_the_root_command_starts_within_a_second(arguments: tuple[str, ...]) -> None:
    seconds, _ = start_s(*arguments)
    assert seconds < MAX_START_S


def test_help_names_every_subcommand() -> None:
    _, output = start_s("-m", "pipeline.orchestrate", "--help")
    for name in ("train", "eval", "sft", "stress", "doctor"):
        assert name in output


def test_there_are_recipes() -> None:
    assert {"quickstart", "grpo"} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_valid_configuration(name: str) -> None:
    config = load_recipe(name)
    assert isinstance(config, Config)
    assert config.recipe == name
