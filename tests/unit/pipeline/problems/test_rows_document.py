"""The table of docs/rows.md: every row in it is read, or refused, as it says there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline.config.problems import ProblemsSection
from pipeline.config.rollout import RewardSection
from pipeline.errors import DataError
from pipeline.evaluation.plan import task_hash
from pipeline.problems.benchmark_items import find_benchmark, tasks_of
from pipeline.problems.dataset import load_problems
from pipeline.rewards.code.case_runner import Rules
from pipeline.rewards.scorers import make_scorer
from pipeline.sft.worked_solutions import solve
from pipeline.types import Task
from tests.documents import ROOT

SHAPE = re.compile(r"^\| `(.+?)` \| (.+?) \|(?: (?:(.*?) )?\|)?$", re.MULTILINE)
SHAPES = SHAPE.findall((ROOT / "docs" / "rows.md").read_text(encoding="utf-8"))
ACCEPTED = [(row, says, target) for row, says, target in SHAPES if not says.startswith("refused")]
REFUSED = [(row, says.removeprefix("refused: ")) for row, says, _ in SHAPES if says.startswith("refused")]
OTHER = '{"question": "Is this held out?", "answer": "yes"}\n'


def trained(folder: Path, row: str) -> Task:
    """`row`, the second line of a file, as a run reads it to train on."""
    file, heldout = folder / "rows.jsonl", folder / "heldout.jsonl"
    file.write_text(f"\n{row}\n", encoding="utf-8")
    heldout.write_text(OTHER, encoding="utf-8")
    section = ProblemsSection(source="jsonl", train_file=str(file), heldout_file=str(heldout), num_heldout=1)
    return load_problems(section, 0).train[0]


def printing(task: Task) -> str:
    """A program that reads and prints, in the words of the document."""
    entry = task.label.entry
    num, rules = len(entry.get("tests", ())), Rules.model_validate(entry.get("rules", {}))
    parts = [f"reads and prints, {num} case{'s' if num > 1 else ''}"]
    parts += [f"tolerance {rules.tolerance:g}"] if rules.tolerance else []
    parts += [f"whitespace {rules.whitespace}"] if rules.whitespace != "lines" else []
    parts += ["a checker"] if rules.checker else []
    parts += [f"{rules.time_limit_s:g} s a case"] if rules.time_limit_s else []
    return ", ".join(parts)


def said(task: Task) -> str:
    """`task` in the words of the document."""
    program = f"program `{task.label.entry['entry_point']}`" if task.label.entry.get("entry_point") else printing(task)
    says = program if task.problem.form == "code" else " or ".join(f"`{answer}`" for answer in task.label.answers)
    if not task.problem.id.startswith("rows-"):
        says += f", id `{task.problem.id}`"
    if task.problem.form == "boxed" and task.problem.text != "Q?":
        says += f", question `{task.problem.text}`".replace("\n", "\\n")
    return says


def test_there_are_many_shapes() -> None:
    assert len(ACCEPTED) > 40
    assert len(REFUSED) > 20
    assert sum("reads and prints" in says or "fn_name" in row or "testtype" in row for row, says, _ in SHAPES) >= 30


@pytest.mark.parametrize(("row", "says", "target"), ACCEPTED)
def test_a_row_is_read_as_the_document_says(row: str, says: str, target: str, tmp_path: Path) -> None:
    task = trained(tmp_path, row)
    assert said(task) == says
    solution = solve(task)
    if solution and task.problem.form == "code":
        assert target == "the program in its fence"
        assert solution.text.startswith("```python\n")
        name = task.label.entry["entry_point"]
        assert not name or re.search(rf"(?:def|class) {name}\b", solution.text)
    else:
        assert (solution.text.replace("\n", "\\n") if solution else "") == target.strip("`")


@pytest.mark.parametrize(("row", "says", "target"), ACCEPTED)
def test_every_gold_answer_earns_its_reward_in_a_box_and_a_wrong_one_does_not(
    row: str, says: str, target: str, tmp_path: Path
) -> None:
    task, score = trained(tmp_path, row), make_scorer("math", RewardSection())
    if task.problem.form == "boxed":
        assert all(score(f"So it is \\boxed{{{answer}}}.", task.label).correct for answer in task.label.answers)
        assert not score("So it is \\boxed{-99}.", task.label).correct


@pytest.mark.parametrize(("row", "says"), REFUSED)
def test_a_row_is_refused_by_its_line_with_the_words_of_the_document(row: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        trained(tmp_path, row)
    assert str(caught.value).startswith(f"{tmp_path / 'rows.jsonl'}, line 2: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(("row", "says", "target"), ACCEPTED)
def test_an_evaluation_reads_the_same(row: str, says: str, target: str, tmp_path: Path) -> None:
    task = trained(tmp_path, row)
    (other,) = tasks_of(find_benchmark(str(tmp_path / "rows.jsonl")))
    assert (other.problem.text, other.label.answers, other.label.entry) == (
        task.problem.text,
        task.label.answers,
        task.label.entry,
    )
    assert task_hash(other) == task_hash(other.model_copy(update={"solution": "another"})), "no part of what is asked"
