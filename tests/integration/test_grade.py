"""`grade` from the command line: pairs, problems with responses, what `eval` and a run wrote; reasons, summary, status.
And `eval --rejudge`: verdicts of today on stored answers, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.evaluation.folder import Answered, EvalFolder
from pipeline.evaluation.heldout import Answer
from pipeline.evaluation.modes import Inferred, Turn
from pipeline.evaluation.plan import BenchmarkTasks, Plan, planned
from pipeline.orchestrate import main
from pipeline.problems.benchmark import source_of
from pipeline.problems.benchmark_items import find_benchmark, tasks_of
from pipeline.problems.dataset import load_problems
from pipeline.rewards.code import sandbox
from pipeline.rewards.probe import boxed
from pipeline.rewards.version import verifier_version
from pipeline.run.folder import RunFolder
from pipeline.types import Message, Verdict

needs_isolation = pytest.mark.skipif(bool(sandbox.isolation_problem()), reason=str(sandbox.isolation_problem()))
PROGRAM = {"question": "Write f.", "tests": "assert f(1) == 2", "entry_point": "f"}


def write(file: Path, *rows: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@needs_isolation
def test_pairs_are_graded_each_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(
        tmp_path / "pairs.jsonl",
        {"response": "So \\boxed{0.5}", "answer": "1/2"},
        {"question": "2 + 3?", "completion": "The answer is 6.", "ground_truth": 5, "id": "five"},
        {**PROGRAM, "response": "```python\ndef f(x):\n    return x + 1\n```"},
        {**PROGRAM, "response": ""},
        {"response": "<think>\\boxed{7}</think> Hm.", "answer": "7"},
    )
    assert main(["grade", str(file), "--reward.timeout_s", "60"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        f"PASS  {file}, line 1",
        "      extracted  0.5  (by the last \\boxed{…})",
        "      compared   with 1/2",
        "      rule       the same number",
    ]
    states = [line.split()[0] for line in lines if line.startswith(("PASS", "FAIL"))]
    assert states == ["PASS", "FAIL", "PASS", "FAIL", "FAIL"], lines
    assert "      extracted  6  (by a statement of the answer)" in lines
    assert "      rule       all tests passed" in lines
    assert "      rule       no program was found that defines f" in lines
    assert lines[-2:] == [
        "2 of 5 pass (40.0%); scored 3, no_answer 2",
        "found by: no mark 2, the last \\boxed{…} 1, a statement of the answer 1, a code block of 1 1",
    ]


def test_labels_decide_the_status_and_json_is_one_object_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = {"gold": "x=5", "answer": "\\boxed{5}", "expected": True}
    wrong = {"gold": "x=5", "answer": "\\boxed{6}", "expected": False}
    assert main(["grade", str(write(tmp_path / "suite.jsonl", right, wrong)), "--json"]) == 0
    captured = capsys.readouterr()
    first, second = map(json.loads, captured.out.splitlines())
    assert (first["passed"], first["extracted"], first["compared_with"], first["expected"]) == (
        True,
        "5",
        ["x=5"],
        True,
    )
    assert first["mark"] == "the last \\boxed{…}" and first["rule"].startswith("a value that says what")
    assert (second["passed"], second["rule"]) == (False, "each is a value, and they differ")
    assert "labels: 2 of 2 as labelled; 0 pass that are wrong, 0 fail that are right" in captured.err
    assert main(["grade", str(write(tmp_path / "bad.jsonl", right, {**wrong, "expected": True})), "--failed"]) == 1
    out = capsys.readouterr().out
    assert "PASS" not in out and "line 2  (labelled right)" in out
    assert "labels: 1 of 2 as labelled; 0 pass that are wrong, 1 fail that are right" in out


def test_ones_own_scorer_says_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "polite.py").write_text("def f(response, answer): return 0.75, f'{len(response)} letters'")
    file = write(tmp_path / "pairs.jsonl", {"response": "please", "answer": "7"})
    assert main(["grade", str(file), "--reward.scorer", "polite:f", "--reward.threshold", "0.5"]) == 0
    assert "      rule       6 letters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            '{"answer": "7"}',
            "line 1: it has no response (response, completion, output, prediction, text); expected a pair",
        ),
        ('{"response": 7, "answer": "7"}', "response = 7 is no text"),
        ('{"response": "7"}', "line 1"),
        ("[1]", "line 1: a JSON list; expected"),
        ("{", "line 1: not JSON"),
        ("", "holds no responses"),
        ('{"problem_id": "p", "text": "7"}', "is no run folder"),
    ],
)
def test_what_cannot_be_graded_is_named(
    content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(content)
    assert main(["grade", str(file)]) == 2
    assert words in capsys.readouterr().err


OLD = "00000000"


def stored_evaluation(folder: Path, rows: Path) -> EvalFolder:
    """An evaluation of four sums by an older verifier, of which two verdicts are what they are today."""
    benchmark = find_benchmark(str(rows))
    tasks = tasks_of(benchmark)
    asked = BenchmarkTasks(benchmark.name, tasks, 64, "math", source_of(benchmark))
    cell = planned(Config(), asked, "zero-shot")
    # Templates of then: asked anew, every prompt would be another one.
    cell = cell.model_copy(update={"settings": {**cell.settings, "templates": {"scratch": "of then"}}})
    found = EvalFolder(folder)
    with found.opened([{"url": "http://127.0.0.1:9", "model": "m"}]):
        plan = Plan()
        plan.add(cell)
        plan.write(found.plan_file)
        found.make_logs()
        texts = ["\\boxed{3}", "\\boxed{4}", "\\boxed{6}", "\\boxed{6}"]
        was_right = [True, False, True, True]
        for number, (task, text, right) in enumerate(zip(tasks, texts, was_right, strict=True)):
            messages = (Message(role="user", content=f"Of then: {task.problem.text} Box it."),)
            turn = Turn(
                messages=messages, text=text, finish_reason="stop", num_prompt_tokens=9, num_completion_tokens=5
            )
            wanted = cell.wanted[task.problem.id]
            found.append(
                Answered(
                    key=cell.key(wanted, 0), benchmark=benchmark.name, problem_id=task.problem.id, family="",
                    mode="zero-shot", sample=0, inferred=Inferred(turns=(turn,)), verifier=OLD,
                    verdict=Verdict(kind="scored", score=float(right), correct=right, answer=f"old {number}"),
                )
            )  # fmt: skip
    return found


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    return write(tmp_path / "sums.jsonl", *({"question": f"What is {n} + 3?", "answer": str(n + 3)} for n in range(4)))


def test_rejudge_gives_verdicts_of_today_and_tells_what_changed(
    tmp_path: Path, sums: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stored_evaluation(tmp_path / "e", sums)
    assert main(["eval", "--rejudge", "--out", str(folder.path)]) == 0
    out, version = capsys.readouterr().out, verifier_version("math")
    assert (
        f"sums, zero-shot: 4 verdicts were given anew, by version {version} of the verifier ({OLD} before), and "
        "no model was asked: from wrong to right 1, from right to wrong 1; verdicts that differ 4." in out
    )
    assert "| sums-0001 | 0 | wrong: old 1 | right: 4 |" in out and "| sums-0002 | 0 | right: old 2 | wrong: 6 |" in out
    assert "| sums | zero-shot | 4 | 1 | 75.0%" in out and "of another version" not in out
    answers = {answer.problem_id: answer for answer in folder.answers()}
    assert len(list(folder.answers())) == 4 and {answer.verifier for answer in answers.values()} == {version}
    assert [answers[f"sums-000{n}"].verdict.correct for n in range(4)] == [True, True, False, True]
    stored = json.loads(folder.report_file.read_text())
    assert len(stored["regraded"][0]["changes"]) == 4
    before = folder.answers_file.read_bytes()
    assert main(["eval", "--rejudge", "--out", str(folder.path)]) == 0
    unchanged = "from wrong to right 0, from right to wrong 0; verdicts that differ 0."
    assert f"({version} before), and no model was asked: {unchanged}" in capsys.readouterr().out
    assert folder.answers_file.read_bytes() == before


def test_answers_whose_problem_is_another_one_now_keep_their_verdicts(
    tmp_path: Path, sums: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stored_evaluation(tmp_path / "e", sums)
    rows = [json.loads(line) for line in sums.read_text().splitlines()]
    rows[1]["question"] = "What is 1 + 4?"
    rows[2]["answer"] = "6"  # its gold answer was mended
    write(sums, *rows)
    assert main(["eval", "--rejudge", "--out", str(folder.path)]) == 0
    assert "sums, zero-shot: 1 answers could not be judged anew, and keep their verdicts." in capsys.readouterr().out
    answers = {answer.problem_id: answer for answer in folder.answers()}
    assert (answers["sums-0001"].verifier, answers["sums-0001"].verdict.answer) == (OLD, "old 1")
    assert answers["sums-0002"].verdict.correct
    sums.unlink()
    assert main(["eval", "--rejudge", "--out", str(folder.path)]) == 0
    captured = capsys.readouterr()
    assert "sums: its problems cannot be had, so its answers stay as they were judged" in captured.out + captured.err
    assert "4 answers could not be judged anew" in captured.out


def test_rejudge_needs_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--rejudge", "--out", str(tmp_path / "nothing")]) == 2
    assert "name its folder with --out" in capsys.readouterr().err


def test_answers_of_an_evaluation_are_graded_with_their_stored_verdicts(
    tmp_path: Path, sums: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stored_evaluation(tmp_path / "e", sums)
    assert main(["grade", str(folder.answers_file)]) == 1
    out = capsys.readouterr().out
    assert f"FAIL  {folder.answers_file}, line 3 (sums-0002)" in out
    assert "      before     right, by the verdict that is stored" in out
    assert "stored verdicts: 2 of 4 differ; 1 pass now, 1 fail now" in out


def test_answers_of_a_runs_own_evaluation_are_graded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sections: dict[str, Any] = {"problems": {"num_heldout": 4, "num_train": 4}, "eval": {"num_problems": 4}}
    config = Config.model_validate({**sections, "run": {"root": tmp_path, "name": "r"}})
    run = RunFolder.create(config)
    tasks = load_problems(config.problems, config.run.seed).heldout
    verdict = Verdict(kind="scored", score=1.0, correct=True)
    rows = [
        Answer(
            problem_id=task.problem.id,
            family="",
            text=boxed(task.label.answer),
            finish_reason="stop",
            verdict=verdict,
        )
        for task in tasks
    ]
    file = write(run.evals / "after_RL.jsonl", *(row.model_dump() for row in rows))
    assert main(["grade", str(file)]) == 0
    assert "4 of 4 pass" in capsys.readouterr().out


@needs_isolation
def test_what_could_not_be_judged_is_not_as_labelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = "```python\nimport nothing_such\ndef f(x):\n    return x + 1\n```"
    file = write(tmp_path / "pairs.jsonl", {**PROGRAM, "response": program, "expected": False})
    assert main(["grade", str(file), "--failed"]) == 1
    out = capsys.readouterr().out
    assert "line 1  (labelled wrong)" in out
    assert "labels: 0 of 1 as labelled; 0 pass that are wrong, 0 fail that are right, 1 could not be judged" in out


def test_a_package_that_is_not_installed_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "pairs.jsonl", {**PROGRAM, "response": "", "expected": False})
    assert main(["grade", str(file), "--reward.code.packages", "nothing_such"]) == 2
    assert "reward.code.packages: 'nothing_such' is not installed here" in capsys.readouterr().err
