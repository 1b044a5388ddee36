"""The folder of an evaluation and its plan: nothing is lost, nothing is mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.errors import RunFolderError
from pipeline.evaluation.folder import Answered, EvalFolder, Failed
from pipeline.evaluation.modes import Inferred, Searched, Turn
from pipeline.evaluation.plan import BenchmarkTasks, Plan, labels, planned, questions, task_hash
from pipeline.evaluation.results import scored
from pipeline.inference.usage import Prices
from pipeline.types import Label, Problem, Task, Verdict

WHO = [{"url": "http://a", "model": "m", "root": "/weights/m"}]


def answered(number: int, *, answer: str = "7", key: str = "") -> Answered:
    turn = Turn(
        messages=(),
        text=answer,
        finish_reason="stop",
        endpoint="http://a",
        num_prompt_tokens=90,
        num_completion_tokens=10,
    )
    verdict = Verdict(kind="scored", score=1.0, correct=True, answer=answer)
    return Answered(
        key=key or f"k{number}", benchmark="sums", problem_id=f"p{number}", family="", mode="zero-shot", sample=0,
        inferred=Inferred(turns=(turn, turn)), verdict=verdict,
    )  # fmt: skip


def asked(num: int = 2, gold: str = "7", max_tokens: int = 16) -> BenchmarkTasks:
    tasks = [
        Task(
            problem=Problem(id=f"p{n}", text=f"What is {n}?", split="heldout"),
            label=Label(problem_id=f"p{n}", answer=gold),
        )
        for n in range(num)
    ]
    return BenchmarkTasks("sums", tasks, max_tokens, "math")


def config(**settings: Any) -> Config:
    return Config.model_validate({"eval": settings})


def test_answers_survive_a_line_that_a_kill_cut_short(tmp_path: Path) -> None:
    folder = EvalFolder(tmp_path)
    folder.make_logs()
    folder.append(answered(0))
    folder.append(answered(1))
    whole = folder.answers_file.read_bytes()
    for length in range(0, len(whole), 7):
        folder.answers_file.write_bytes(whole[:length])
        num = len(list(folder.answers()))
        assert num == whole[:length].count(b"\n")
        folder.make_logs()
        folder.append(answered(2))
        assert [answer.problem_id for answer in folder.answers()][num:] == ["p2"]


def test_failures_are_kept_by_their_question(tmp_path: Path) -> None:
    folder = EvalFolder(tmp_path)
    folder.make_logs()
    folder.append_failure(Failed(key="k", kind="timeout", detail="no answer in 600 s"))
    folder.append_failure(Failed(key="k", kind="http_400", detail="refused"))
    assert folder.failures() == {"k": "http_400"}


def test_of_two_answers_to_one_question_the_later_one_stays(tmp_path: Path) -> None:
    folder = EvalFolder(tmp_path)
    folder.make_logs()
    for number, answer in enumerate(["7", "8", "9"]):
        folder.append(answered(number, answer=answer))
    folder.append(answered(1, answer="10"))
    with folder.answers_file.open("ab") as file:
        file.write(b'{"key": "cut sho')
    folder.drop_superseded()
    assert [(answer.key, answer.verdict.answer) for answer in folder.answers()] == [
        ("k0", "7"),
        ("k2", "9"),
        ("k1", "10"),
    ]
    assert folder.answers_file.read_bytes().count(b"\n") == 3


def test_a_folder_keeps_to_who_was_asked(tmp_path: Path) -> None:
    folder = EvalFolder(tmp_path / "e")
    with folder.opened(WHO):
        with pytest.raises(RunFolderError, match="another evaluation is writing there"), folder.opened(WHO):
            pass
        folder.make_logs()
        folder.append(answered(0))
    other = [{**WHO[0], "model": "n"}]
    refused = pytest.raises(
        RunFolderError, match=r"holds answers of url 'http://a' model 'm'.*'n' root '.weights.m'; choose.*--fresh"
    )
    with refused, folder.opened(other, moved=True):
        pass
    with folder.opened(other, fresh=True):
        assert list(folder.answers()) == []


def test_other_weights_under_the_same_name_are_another_model(tmp_path: Path) -> None:
    folder = EvalFolder(tmp_path)
    with folder.opened(WHO):
        pass
    refused = pytest.raises(RunFolderError, match="root '/weights/other'; choose another --out")
    with refused, folder.opened([{**WHO[0], "root": "/weights/other"}]):
        pass


def test_a_model_that_has_moved_keeps_its_folder(tmp_path: Path) -> None:
    folder = EvalFolder(tmp_path)
    with folder.opened(WHO, cards=[{"created": 1}]):
        pass
    moved = [{**WHO[0], "url": "http://b"}]
    with pytest.raises(RunFolderError, match="add --moved"), folder.opened(moved):
        pass
    with folder.opened(moved, moved=True, cards=[{"created": 2}]):
        pass
    with folder.opened(moved):
        pass


@pytest.mark.parametrize("line", ['{"key": "x"}\n', "[]\n"])
def test_answers_of_another_version_are_refused(line: str, tmp_path: Path) -> None:
    folder = EvalFolder(tmp_path)
    folder.answers_file.write_text(line)
    with pytest.raises(RunFolderError, match=r"another version of lanpo; move answers\.jsonl away .*stay"):
        folder.plan()
    with pytest.raises(RunFolderError, match=r"not of this version of lanpo .*move it away"):
        list(folder.answers())


def test_the_folder_of_an_identity_of_another_version_is_refused(tmp_path: Path) -> None:
    folder = EvalFolder(tmp_path)
    folder.identity_file.write_text('{"asked": [["http://a", "m"]]}')
    with pytest.raises(RunFolderError, match="holds answers of"), folder.opened(WHO, moved=True):
        pass


# The plan


def test_more_problems_and_samples_join_a_cell(tmp_path: Path) -> None:
    plan = Plan()
    plan.add(planned(config(temperature=1.0), asked(3), "zero-shot"))
    plan.add(planned(config(temperature=1.0, num_samples=8), asked(2), "zero-shot"))
    plan.add(planned(config(temperature=1.0, num_samples=2), asked(4), "zero-shot"))
    plan.write(tmp_path / "plan.json")
    (cell,) = Plan.read(tmp_path / "plan.json").cells
    assert {problem: wanted.num_samples for problem, wanted in cell.wanted.items()} == {
        "p0": 8,
        "p1": 8,
        "p2": 2,
        "p3": 2,
    }


def test_another_setting_is_another_cell_and_told_apart_by_it() -> None:
    plan = Plan()
    plan.add(planned(config(), asked(), "zero-shot"))
    plan.add(planned(config(num_samples=2), asked(), "zero-shot"))
    plan.add(planned(config(num_samples=2), asked(), "reflect"))
    assert [labels(plan.cells)[cell.id] for cell in plan.cells] == ["temperature 0", "temperature 1", ""]
    settings = [cell.settings for cell in plan.cells]
    assert settings[1] == settings[2] != settings[0]


@pytest.mark.parametrize(
    ("mode", "changes"),
    [
        ("zero-shot", {"rollout": {"system_prompt": "Be brief."}}),
        ("zero-shot", {"reward": {"threshold": 0.5}}),
        ("reflect", {"eval": {"num_rounds": 2}}),
        ("retrieval", {"feedback": {"similarity_threshold": 0.5}}),
    ],
)
def test_what_an_answer_depends_on_is_in_its_key(mode: Any, changes: dict[str, Any]) -> None:
    before, after = (planned(Config.model_validate(values), asked(), mode) for values in ({}, changes))
    assert before.id != after.id


def test_what_no_answer_depends_on_is_not_in_its_key() -> None:
    """The number of requests in flight, prices, deadlines, how many samples and problems there are."""
    endpoint = {"url": "http://e", "model": "m", "max_concurrency": 4, "prompt_price": 1.0}
    before = planned(config(temperature=1.0), asked(2), "retrieval", pool_key="r@1")
    after = planned(
        Config.model_validate(
            {"eval": {"num_samples": 3}, "endpoints": [endpoint], "requests": {"timeout_s": 900.0}, "feedback": {"ratio": 0.1}}
        ),
        asked(5), "retrieval", pool_key="r@1",
    )  # fmt: skip
    assert before.id == after.id
    assert before.id != planned(config(temperature=1.0), asked(2), "retrieval", pool_key="r@2").id


def test_a_problem_with_another_gold_answer_is_asked_again() -> None:
    plan = Plan()
    old, new = (planned(config(), asked(2, gold), "zero-shot") for gold in ("7", "8"))
    plan.add(old)
    plan.add(new)
    (cell,) = plan.cells
    assert cell.wanted == new.wanted != old.wanted
    big = asked(1).tasks[0]
    label = big.label.model_copy(update={"entry": {"n": 2**70}})
    assert task_hash(big.model_copy(update={"label": label})) != task_hash(big)


def test_questions_are_keyed_by_cell_problem_and_sample() -> None:
    settings = config(num_samples=2)
    one = asked(2)
    cells = [planned(settings, one, mode) for mode in ("zero-shot", "reflect")]
    found = list(questions(settings, [(one, cells)]))
    assert len({question.key for question in found}) == len(found) == 2 * 2 * 2
    assert [(question.task.problem.id, question.mode, question.sample) for question in found[:3]] == [
        ("p0", "zero-shot", 0),
        ("p0", "zero-shot", 1),
        ("p0", "reflect", 0),
    ]


def test_a_plan_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('[{"benchmark": 3}]')
    with pytest.raises(RunFolderError, match=r"plan\.json: no plan of this version of lanpo"):
        EvalFolder(tmp_path).plan()


def test_an_answer_costs_its_turns_and_its_search() -> None:
    class Endpoint:
        def __init__(self, url: str, prompt: float, completion: float) -> None:
            self.base_url, self.prompt_price, self.completion_price = url, prompt, completion

    prices = Prices([Endpoint("http://a", 1.0, 10.0)], Endpoint("http://j", 100.0, 0.0))  # type: ignore[list-item, arg-type]
    answer = answered(0)
    inferred = answer.inferred.model_copy(update={"search": Searched("http://j", 50, 5)})
    found = scored(answer.model_copy(update={"inferred": inferred}), prices)
    assert (found.num_prompt_tokens, found.num_completion_tokens) == (230, 25)
    assert found.cost == pytest.approx((180 * 1 + 20 * 10 + 50 * 100) / 1e6)
    assert (
        Answered.model_validate_json(answer.model_copy(update={"inferred": inferred}).model_dump_json()).inferred
        == inferred
    )


def test_what_a_search_depends_on_makes_another_cell() -> None:
    base = config()
    changed = base.feedback.model_copy(
        update={"num_candidates_per_problem": base.feedback.num_candidates_per_problem + 1}
    )
    other = base.model_copy(update={"feedback": changed})
    assert planned(base, asked(), "retrieval").id != planned(other, asked(), "retrieval").id
    assert planned(base, asked(), "zero-shot").id == planned(other, asked(), "zero-shot").id


def test_benchmarks_of_one_name_from_two_places_are_two_cells() -> None:
    one, two = (planned(config(), asked()._replace(source=source), "zero-shot") for source in ("file a", "file b"))
    assert one.id != two.id
