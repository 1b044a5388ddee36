"""One word for each thing: names that the project gave up occur nowhere, in code, settings, metrics, files or prose."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.runtime.files import flat
from tests.documents import DOCUMENTS, ROOT

TOP = ("pipeline", "prompts", "servers", "trainer", "tests", "benchmarks")
SOURCES = sorted(path for top in TOP for path in (ROOT / top).rglob("*.py") if path != Path(__file__))

# What is given up → what stands in its place.
NAMES = {
    "EndpointPool": "InferenceClient",
    "Places": "Router",
    "Place": "GroupKey",
    "Asked": "BenchmarkTasks",
    "Asker": "RequestFn",
    "Attempts": "RequestRunner",
    "Wanted": "SamplingRequest, SampleTarget",
    "Named": "ServedModel, NamedValue",
    "Said": "RankZeroMessage",
    "Found": "RetrievalResult, ShownLessons",
    "Sighting": "AuditedEntry",
    "KeptEndpoints": "CachedClient",
    "Others": "WorkerProcesses",
    "bring_to": "sync_server",
    "bring_all": "sync_all",
    "let_go": "resume_if_paused",
    "disown": "clear_version_label",
    "set_back": "rollback",
    "SET_BACK": "ROLLBACK_PIN",
    "forget": "clear_run_entries",
    "take_in": "import_entries",
    "hold_out": "set_heldout",
    "survives": "group_is_current",
    "dark": "all_unavailable",
    "fit": "available",
    "suspect": "record_failure",
    "at_once": "immediate",
    "led": "on_rank0",
    "leads": "is_rank0",
    "obey_the_leader": "ignore_stop_signals",
    "is_foreign": "is_imported",
    "as_foreign": "as_imported",
    "HARMLESS": "RESUMABLE_SETTINGS",
    "ROOMS": "PACKAGES",
    "ROOM_TO_THINK": "THINKING_TOKENS",
    "room": "slots, capacity",
    "step_numbers": "step_metrics",
    "say": "log",
    "worded": "describe",
    "told": "reported",
}
SETTINGS = {
    "sft.hasty_share": "sft.answer_only_share",
    "requests.canary_timeout_s": "requests.probe_timeout_s",
}
# Old names of modules that could come back.
FILES = {
    "sources",
    "exposition",
    "changes",
    "worked",
    "conclusions",
    "wire",
    "places",
    "records",
    "afterthoughts",
    "step_numbers",
}
PROSE = re.compile(r"(?<![a-z])(sittings?|rooms?|untouched)(?![a-z])", re.IGNORECASE)
# What runs of before have on disk is read, and tested, under its names.
FORMER = {"pipeline/run/state.py", "tests/integration/test_old_run.py", "tests/unit/pipeline/run/test_state.py"}


def names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every identifier of a module, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.keyword(arg=str(name)):
                yield name, node.lineno
            case ast.alias(name=name, asname=alias):
                yield name.rpartition(".")[2], node.lineno
                yield alias or "", node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_that_were_given_up_occur_nowhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = [f"line {line}: {name}; say {NAMES[name]}" for name, line in names(ast.parse(text)) if name in NAMES]
    if path.relative_to(ROOT).as_posix() not in FORMER:
        found += [f"line {i}: {line.strip()}" for i, line in enumerate(text.splitlines(), 1) if PROSE.search(line)]
    assert found == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_prose_of_documents_uses_none_of_them(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [f"{number}: {line}" for number, line in enumerate(lines, 1) if PROSE.search(line)] == []


@pytest.mark.parametrize("pattern", ["*.toml", "*.txt", "*.html", "*.md"])
def test_data_files_use_none_of_them(pattern: str) -> None:
    files = [path for top in TOP[:4] for path in (ROOT / top).rglob(pattern)]
    text = {path: path.read_text(encoding="utf-8") for path in files}
    old = [name.rpartition(".")[2] for name in SETTINGS]
    assert [path for path in files if PROSE.search(text[path]) or any(name in text[path] for name in old)] == []


def test_settings_and_files_have_their_new_names() -> None:
    assert not SETTINGS.keys() & flat(Config().model_dump(mode="json")).keys()
    assert [path for path in SOURCES if path.is_relative_to(ROOT / "pipeline") and path.stem in FILES] == []


def test_a_name_that_was_given_up_is_found() -> None:
    tree = ast.parse("from a.b import bring_to\ndef f(say): x.dark = say\nclass Place: ...\ng(room=1)")
    assert {name for name, _ in names(tree)} & NAMES.keys() == {"bring_to", "say", "dark", "Place", "room"}
    assert PROSE.search("The last sitting left no room.")
