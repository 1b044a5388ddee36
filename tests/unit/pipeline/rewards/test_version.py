"""The version of a verifier changes with the files that decide its verdicts, and with no others."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.rewards.version import ROOT, deciding_files, verifier_version
from tests.unit.test_architecture import imported_modules

OURS = ("auto", "math", "code")
# What scorers import besides, and what decides no verdict: settings (in an evaluation's plan), records, errors, loading
# of plugins.
PLUMBING = {"config", "errors", "runtime", "types"}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages to change files of."""
    root = tmp_path_factory.mktemp("root")
    for package in ("pipeline", "prompts"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def versions(root: Path) -> dict[str, str]:
    return {scorer: verifier_version(scorer, root) for scorer in (*OURS, "judge")}


def changed(file: Path, root: Path) -> Iterator[str]:
    """The scorers that have another version while `file` ends in one more line."""
    before, content = versions(root), file.read_bytes()
    file.write_bytes(content + b"\n# another line\n")
    after = versions(root)
    file.write_bytes(content)
    assert versions(root) == before
    return (scorer for scorer in before if before[scorer] != after[scorer])


def test_a_copy_has_the_same_versions(copied: Path) -> None:
    assert versions(copied) == versions(ROOT)
    assert len({verifier_version(scorer) for scorer in OURS}) == 1
    assert verifier_version("judge") != verifier_version("math")


def test_the_files_are_all_of_the_rewards_and_what_they_read_with(copied: Path) -> None:
    found = [*(ROOT / "pipeline/rewards").rglob("*.py"), *(ROOT / "pipeline/rewards").rglob("*.toml")]
    rewards = {path.relative_to(ROOT).as_posix() for path in found if path.parent.name != "judge"}
    assert "pipeline/rewards/code/refused_calls.toml" in rewards
    assert {*deciding_files("math", copied)} == rewards | {"pipeline/text.py"}
    for part in ("math/equality", "code/sandbox", "code/seccomp", "code/guest", "extraction"):
        assert f"pipeline/rewards/{part}.py" in rewards


@pytest.mark.parametrize("file", deciding_files("judge"))
def test_each_file_that_decides_a_verdict_changes_the_version(file: str, copied: Path) -> None:
    judged_alone = file not in deciding_files("math")
    assert [*changed(copied / file, copied)] == (["judge"] if judged_alone else [*OURS, "judge"])


@pytest.mark.parametrize(
    "file",
    [
        *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "pipeline/problems").glob("*.*")),
        "pipeline/config/problems.py",
        "pipeline/evaluation/runner.py",
        "pipeline/evaluation/voting.py",
        "pipeline/experience/pool.py",
        "pipeline/loop/scheduler.py",
        "pipeline/errors.py",
        "prompts/templates/scratch.txt",
    ],
)
def test_generators_of_problems_and_other_packages_do_not(file: str, copied: Path) -> None:
    assert [*changed(copied / file, copied)] == []


def test_a_file_that_joins_goes_or_is_renamed_changes_the_version(copied: Path) -> None:
    before, folder = verifier_version("math", copied), copied / "pipeline/rewards/math"
    (folder / "more.py").write_text("")
    assert verifier_version("math", copied) != before
    (folder / "more.py").unlink()
    (folder / "units.py").rename(folder / "measures.py")
    assert verifier_version("math", copied) != before
    (folder / "measures.py").rename(folder / "units.py")
    assert verifier_version("math", copied) == before
    with pytest.raises(FileNotFoundError):
        verifier_version("math", copied / "nowhere")


def test_whatever_else_the_scorers_import_decides_nothing() -> None:
    """A module that begins to decide verdicts from outside of the list fails here."""
    imported, graph = set[str](), imported_modules()
    waiting = ["pipeline.rewards.scorers", "pipeline.rewards.worker", "pipeline.rewards.verifier"]
    while waiting:
        module = waiting.pop()
        if module not in imported:
            imported.add(module)
            waiting += graph[module]
    files = deciding_files("math")
    outside = {name for name in imported if f"{name.replace('.', '/')}.py" not in files}
    assert {name.split(".")[1] for name in outside if name.startswith("pipeline.")} - {"rewards"} <= PLUMBING
    assert {name for name in outside if name.startswith("pipeline.rewards.")} == {"pipeline.rewards.math"}  # a package


def test_a_users_verifier_that_changes_has_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "my_scorer_module.py"
    module.write_text("def score(text, answer): return 1.0\n")
    before = verifier_version("my_scorer_module:score")
    module.write_text("def score(text, answer): return 0.0\n")
    assert verifier_version("my_scorer_module:score") != before
    assert verifier_version("math") == verifier_version("code") != before
