"""Who may import whom, and that the root command stays light (docs/design.md)."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.config.loading import load_recipe

ROOT = Path(__file__).resolve().parents[2]
TOP = ("pipeline", "prompts", "servers", "trainer")
HEAVY = ("torch", "vllm", "trl", "transformers", "lancedb", "datasets", "reasoning_gym", "openai")
RECIPES = sorted(path.stem for path in (ROOT / "pipeline" / "config" / "recipes").glob("*.toml"))

# Lowest first. A module imports its own package and lower ones; those of one line are peers, which never import each
# other, but for the leaves.
ORDER = (
    "errors types text hashing statistics",
    "runtime",
    "config",
    "run",
    "storage",
    "weights",
    "inference",
    "observability",
    "rewards",
    "problems",
    "experience",
    "loop evaluation sft audit",
    "probe",
    "preflight",
    "commands",
    "orchestrate",
)
FLOOR = {name: floor for floor, names in enumerate(ORDER) for name in names.split()}
# What servers and trainer may import of pipeline: the contract between the kinds of process.
CONTRACT = {*ORDER[0].split(), "runtime", "config", "run", "storage", "weights"}

NOT_IN_PIPELINE = {
    "sympy",
    "math_verify",
    "torch",
    "vllm",
    "trl",
    "transformers",
    "peft",
    "accelerate",
    "openai",
    "tests",
    "benchmarks",
}
# Libraries that only these parts of pipeline import.
OWNERS = {
    "lancedb": ("pipeline/storage/",),
    "lance": ("pipeline/storage/",),
    "aiohttp": ("pipeline/inference/http.py", "pipeline/observability/http_server.py"),
    "httpx": ("pipeline/weights/",),
    "matplotlib": ("pipeline/evaluation/plots.py", "pipeline/observability/"),
    "rich": ("pipeline/observability/",),
    "jinja2": ("pipeline/audit/html.py",),
    "uvloop": ("pipeline/runtime/event_loop.py",),
    "prometheus_client": ("pipeline/observability/prometheus.py",),
    "datasets": ("pipeline/problems/rows.py",),
    "reasoning_gym": ("pipeline/problems/reasoning_gym.py", "pipeline/rewards/"),
    "pyarrow": ("pipeline/storage/", "pipeline/experience/"),
    "safetensors": ("pipeline/weights/lora.py",),
    "numpy": ("pipeline/statistics.py", "pipeline/evaluation/", "pipeline/audit/", "pipeline/experience/similarity.py"),
    "rapidfuzz": ("pipeline/text.py", "pipeline/experience/", "pipeline/probe/skills.py"),
}
# Of these, what costs a start time is imported within functions; the others by modules that the root command does not
# load.
LAZY = set(OWNERS) - {"aiohttp", "httpx", "numpy", "rapidfuzz"}
IMPORTING = ("import_module", "__import__")
MAX_LINES = 400
MAX_PARAMETERS = 10
MAX_MODULES_AT_THE_TOP = 8
MAX_START_S = 1.0


def resolved(node: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    """Dotted names that an import statement names; a relative one is resolved against `package`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*parents, base] if base else parents)
    # `from pipeline.inference import protocol` names a module, `from pipeline.config import Config` a member of one.
    return [f"{base}.{alias.name}" if base.partition(".")[0] in TOP else base for alias in node.names]


def imports(source: str, package: str = "") -> Iterator[tuple[str, bool]]:
    """Every dotted name that `source` imports at any depth, and whether that happens as soon as it is itself
    imported."""

    def within(node: ast.AST, *, immediate: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((name, immediate) for name in resolved(node, package))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in IMPORTING:
            yield from ((str(word.value), immediate) for word in node.args[:1] if isinstance(word, ast.Constant))
        is_later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test).startswith("TYPE_CHECKING")
        immediate = immediate and not is_later and not is_for_types
        for child in ast.iter_child_nodes(node):
            yield from within(child, immediate=immediate)

    yield from within(ast.parse(source), immediate=True)


def allowed(importer: str, imported: str) -> bool:
    """Whether the part `importer` of pipeline may import the part `imported`; a part is a package or a module at the
    top."""
    if importer == imported:
        return True
    own, other = FLOOR.get(importer), FLOOR.get(imported)
    return own is not None and other is not None and (other < own or other == own == 0)


def violations(path: Path, source: str) -> list[str]:
    """Imports of the file at `path` (relative to the root) that it may not make."""
    top, part, where = path.parts[0], path.with_suffix("").parts[1], path.as_posix()
    found = set()
    for name, immediate in imports(source, ".".join(path.parent.parts)):
        other, *rest = name.split(".")
        if other in TOP and other != top:
            contract = top in ("servers", "trainer") and other == "pipeline" and rest and rest[0] in CONTRACT
            if top == "prompts" or not (other == "prompts" or contract):
                found.add(f"{where}: {top} may not import {name}")
        if other == top == "pipeline" and rest and not allowed(part, rest[0]):
            found.add(f"{where}: {part} may not import {name}")
        if other in ("lancedb", "lance") and not where.startswith(OWNERS[other]):
            found.add(f"{where}: only storage imports {other}")
        elif top == "pipeline" and (
            other in NOT_IN_PIPELINE
            or (other in OWNERS and not where.startswith(OWNERS[other]))
            or (other in LAZY and immediate)
        ):
            found.add(f"{where}: pipeline may not import {other} here{' at once' * immediate}")
    return sorted(found)


def sources() -> list[Path]:
    return sorted(path.relative_to(ROOT) for top in TOP for path in (ROOT / top).rglob("*.py"))


def cycle(modules: dict[str, set[str]]) -> list[str]:
    """A cycle of imports among `modules`, empty where there is none."""
    try:
        TopologicalSorter(modules).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def imported_modules() -> dict[str, set[str]]:
    """The modules of ours that each of them imports, at any depth, under TYPE_CHECKING and within functions too."""
    paths = {path: path.with_suffix("").parts for path in sources()}
    names = {path: ".".join(parts[:-1] if parts[-1] == "__init__" else parts) for path, parts in paths.items()}
    known = set(names.values())
    graph: dict[str, set[str]] = {}
    for path, name in names.items():
        found = {
            wanted if wanted in known else wanted.rpartition(".")[0]
            for wanted, _ in imports((ROOT / path).read_text(encoding="utf-8"), ".".join(path.parent.parts))
        }
        graph[name] = (found & known) - {name}
    return graph


@pytest.mark.parametrize("path", sources(), ids=str)
def test_a_module_imports_only_what_it_may(path: Path) -> None:
    assert violations(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert cycle(imported_modules()) == []


def test_a_circle_is_found() -> None:
    assert set(cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


def test_the_design_states_this_order() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    stated = " ".join(text[text.index("leaves < ") :].partition("```")[0].split())
    lines = [f"{{{names.replace(' ', ', ')}}}" if " " in names else names for names in ORDER[1:]]
    assert stated == " < ".join(["leaves", *lines])


def test_every_part_of_pipeline_has_its_floor() -> None:
    found = {path.with_suffix("").parts[1] for path in sources() if path.parts[0] == "pipeline"} - {"__init__"}
    assert found == set(FLOOR)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("prompts/render.py", "from pipeline.types import Problem"),
        ("prompts/render.py", "import trainer"),
        ("pipeline/observability/live_view.py", "import servers.launch"),
        ("pipeline/commands/train.py", "def f():\n    from trainer import learner"),
        ("pipeline/commands/train.py", "def f():\n    import torch.nn"),
        ("pipeline/loop/rollouts.py", "def f():\n    import lancedb"),
        ("pipeline/loop/rollouts.py", "from pipeline.evaluation.modes import Mode"),
        ("pipeline/loop/rollouts.py", "from pipeline.commands import train"),
        ("pipeline/storage/journal.py", "if TYPE_CHECKING:\n    from pipeline.loop.scheduler import Scheduler"),
        ("pipeline/storage/tables.py", "import lance"),
        ("pipeline/text.py", "from pipeline.runtime.files import flat"),
        ("pipeline/inference/client.py", "def f():\n    import rich"),
        ("pipeline/observability/live_view.py", "import rich"),
        ("pipeline/preflight/endpoints.py", "import aiohttp"),
        ("pipeline/observability/live_view.py", "try:\n    import rich\nexcept ImportError:\n    pass"),
        ("pipeline/observability/live_view.py", "class A:\n    import rich"),
        ("pipeline/loop/rollouts.py", "from tests.builders import group"),
        (
            "pipeline/loop/rollouts.py",
            "import importlib\nimportlib.import_module('pipeline.evaluation.modes')",
        ),
        ("pipeline/loop/rollouts.py", "def f():\n    __import__('torch')"),
        ("pipeline/loop/rollouts.py", "def f():\n    import safetensors.torch"),
        ("servers/launch.py", "from trainer.grpo import Trainer"),
        ("servers/launch.py", "from pipeline.loop.rollouts import sample"),
        ("trainer/grpo.py", "from pipeline import loop"),
        ("trainer/grpo.py", "import lancedb"),
        ("pipeline/commands/train.py", "from ...trainer import learner"),
    ],
)
def test_a_forbidden_import_is_found(path: str, source: str) -> None:
    assert len(violations(Path(path), source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("pipeline/storage/tables.py", "def f():\n    import lancedb"),
        ("pipeline/loop/scheduler.py", "from prompts.schemas import Lesson\nfrom pipeline.experience.pool import x"),
        ("pipeline/commands/train.py", "from ..config import Config\nfrom . import evaluate"),
        ("pipeline/types.py", "from pipeline.text import text_hash"),
        (
            "trainer/learner.py",
            "import torch\nfrom pipeline import config\nfrom pipeline.storage.journal import Journal",
        ),
        ("servers/launch.py", "from pipeline.runtime.child_process import x\nfrom servers.embedded import prepare"),
    ],
)
def test_an_allowed_import_passes(path: str, source: str) -> None:
    assert violations(Path(path), source) == []


@pytest.mark.parametrize("path", sources(), ids=str)
def test_a_module_is_short_and_its_constructors_take_few_parameters(path: Path) -> None:
    source = (ROOT / path).read_text(encoding="utf-8")
    assert source.count("\n") <= MAX_LINES
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs][1:]
            assert len(parameters) <= MAX_PARAMETERS, f"{path}:{node.lineno} takes {len(parameters)}"


def test_the_top_of_pipeline_holds_few_modules() -> None:
    modules = [path for path in (ROOT / "pipeline").glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MAX_MODULES_AT_THE_TOP


def test_no_file_repeats_the_name_of_its_folder() -> None:
    # A pool is one of the things that experience is about, not the folder.
    assert [str(path) for path in sources() if path.stem.startswith(f"{path.parent.name}_")] == []


def migration() -> dict[str, str]:
    """The table of CONTRIBUTING.md: module of the flat folder → its path below pipeline/ now."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(
        re.findall(r"`([\w/]+)` → `([\w/]+)`", text[text.index("## Where modules went") :].partition("Split off")[0])
    )


def test_the_migration_table_leads_to_modules_that_exist_and_old_paths_do_not_import() -> None:
    table = migration()
    assert len(table) > 125
    assert [new for new in table.values() if not (ROOT / "pipeline" / f"{new}.py").is_file()] == []
    # Some old modules have the name of a package now.
    old = [name for name in table if not (ROOT / "pipeline" / name).is_dir()]
    assert [name for name in old if importlib.util.find_spec(f"pipeline.{name.replace('/', '.')}") is not None] == []


def start_s(*arguments: str) -> tuple[float, str]:
    """Least seconds of processor time of three starts of this Python with `arguments`, and what the last one printed.

    Processor time: other tests that run beside this one do not count."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
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
