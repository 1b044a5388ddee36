"""Whether SFT seeds: only where there is reasoning to learn from, and what is said where there is none."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.config.problems import ProblemsSection
from pipeline.config.sft import SftSection
from pipeline.errors import ConfigError, DataError
from pipeline.inference.protocol import Reply
from pipeline.problems.dataset import load_problems
from pipeline.problems.rows import Row
from pipeline.problems.tasks import parse_row
from pipeline.rewards.extraction import extract_answer
from pipeline.sft.own_pairs import own_pairs
from pipeline.sft.pairs import make_pairs, skills_of
from pipeline.sft.seeding import MIN_SOLVED, seeding
from pipeline.sft.teacher import Teacher, teacher_key
from pipeline.sft.worked_solutions import Solution, solve, with_mistake
from pipeline.text import bag_hash, strip_think, text_hash
from pipeline.types import Message, Task
from prompts.render import render
from prompts.schemas import Abstract
from prompts.sets import templates_of
from tests.unit.pipeline.sft.test_pairs import critiques_claim_only_what_holds

TEACHER = {"teacher": {"url": "http://127.0.0.1:1"}}
GSM8K = (
    "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n"
    "Natalia sold 48+24 = <<48+24=72>>72 clips altogether in April and May.\n#### 72"
)
CODE = "def f(x):\n    return x + 1"
PROGRAM: dict[str, Any] = {"question": "Next of x.", "tests": "assert f(1) == 2", "solution": CODE}

FENCED = f"```python\n{CODE}\n```"


def task(number: int = 0, **row: Any) -> Task:
    values = {"question": f"Question {number}?", "answer": "72", **row}
    return parse_row(Row("rows, line 1", values)).task(f"p{number}", "train")


def tasks_with(num_solved: int, num: int = 40) -> list[Task]:
    return [task(i, **({"answer": GSM8K} if i < num_solved else {})) for i in range(num)]


def config_of(**sft: Any) -> Config:
    return Config.model_validate({"sft": sft})


@pytest.mark.parametrize(
    ("sft", "num_solved", "wanted", "says"),
    [
        ({}, 40, True, "120 pairs from the worked solutions of 40 of 40 problems"),
        ({"num_pairs": 60}, 40, True, "60 pairs from the worked solutions of 40 of 40 problems"),
        ({}, MIN_SOLVED, True, f"48 pairs from the worked solutions of {MIN_SOLVED} of 40 problems"),
        ({}, 0, False, "none of 40 training problems has a worked solution"),
        ({}, 1, False, "only 1 of 40 training problems has a worked solution (auto wants 16)"),
        ({}, MIN_SOLVED - 1, False, "only 15 of 40 training problems have a worked solution (auto wants 16)"),
        ({"num_pairs": 0}, 40, False, "sft.num_pairs = 0, and there is neither sft.teacher nor sft.pairs_file"),
        ({"enabled": False}, 40, False, "sft.enabled = false"),
        ({"enabled": False, **TEACHER}, 0, False, "sft.enabled = false"),
        (TEACHER, 0, True, "3000 pairs of a teacher"),
        ({"num_pairs": 0, **TEACHER}, 40, True, "3000 pairs of a teacher"),
        ({"pairs_file": "mine.jsonl"}, 0, True, "the pairs of mine.jsonl"),
        ({"enabled": True}, 1, True, "3 pairs from the worked solutions of 1 of 40 problems"),
        ({"enabled": True, "pairs_file": "mine.jsonl"}, 0, True, "the pairs of mine.jsonl"),
    ],
)
def test_auto_seeds_where_a_target_has_reasoning_and_says_why_not(
    sft: dict[str, Any], num_solved: int, wanted: bool, says: str
) -> None:
    found = seeding(config_of(**sft), tasks_with(num_solved))
    assert found.wanted == wanted
    assert says in str(found)
    assert ("leave its reasoning out" in str(found)) == (not wanted and sft.get("enabled") is not False)


def test_what_is_demanded_without_anything_to_learn_from_is_refused_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match=r"sft\.enabled = true, but .*none of 40.*Set sft\.enabled = 'auto'.*column"):
        seeding(config_of(enabled=True), tasks_with(0))
    with pytest.raises(ValueError, match=r"sft\.num_pairs = 0 leaves nothing to train on"):
        config_of(enabled=True, num_pairs=0)


def test_procedural_families_without_a_solver_are_not_seeded_on_and_those_with_one_are() -> None:
    def found(*names: str) -> str:
        families = [{"name": name} for name in names]
        section = ProblemsSection.model_validate({"families": families, "num_train": 60, "num_heldout": 4})
        return str(seeding(Config(), load_problems(section, 0).train))

    assert found("word_sorting").startswith("SFT seeding: none, none of 60")
    assert found("chain_sum").startswith("SFT seeding: on 180 pairs from the worked solutions of 60 of 60")
    assert found("chain_sum", "word_sorting").startswith("SFT seeding: on 90 pairs from the worked solutions of 30 of")


def test_a_target_keeps_the_reasoning_of_its_source_and_no_problem_gives_more_than_three() -> None:
    tasks = tasks_with(20)
    pairs = make_pairs(config_of(num_pairs=600), tasks)
    assert len(pairs) == 60
    assert {pair["problem_id"] for pair in pairs} == {f"p{i}" for i in range(20)}
    skills = {
        skill: [pair for pair in pairs if pair["skill"] == skill] for skill in ("respond", "inspect", "summarise")
    }
    assert [len(found) for found in skills.values()] == [42, 12, 6]
    for pair in skills["respond"] + skills["inspect"]:
        target = pair["messages"][-1]["content"]
        assert "Natalia sold 48+24 = 72 clips altogether in April and May." in target
        assert "<<" not in target and "####" not in target
        assert extract_answer(target) == "72"
    critiques_claim_only_what_holds([pair for pair in pairs if pair["skill"] == "inspect"])


def test_programs_are_seeded_in_the_form_that_their_prompt_asks_for() -> None:
    tasks = [task(i, **{**PROGRAM, "question": f"Next of x, {i}."}) for i in range(20)]
    for pair in make_pairs(config_of(num_pairs=60, answer_only_share=1.0), tasks):
        user, target = (message["content"] for message in pair["messages"][-2:])
        assert pair["skill"] in ("respond", "summarise"), "a program was not checked, so no critique of it is made"
        if pair["skill"] == "respond":
            assert "Give the whole program in one ```python block." in user and "\\boxed" not in user + target
            assert target.endswith(FENCED)


@pytest.mark.parametrize(
    ("row", "target"),
    [
        ({"answer": "24 + 48 = <<24+48=72>>72 in all.\n#### 72"}, "24 + 48 = 72 in all.\n\\boxed{72}"),
        ({"solution": "Half of 48 is 24, and both are \\boxed{72}."}, "Half of 48 is 24, and both are \\boxed{72}."),
        ({"solution": "Half of 48 is 24, and both make 72."}, "Half of 48 is 24, and both make 72.\n\\boxed{72}"),
        (
            {"solution": "<think>24 and 48</think>Both months make \\boxed{72}."},
            "<think>24 and 48</think>Both months make \\boxed{72}.",
        ),
        (
            {"answer": ["72", "seventy-two"], "solution": "Half of 48 is 24: \\boxed{seventy-two}."},
            "Half of 48 is 24: \\boxed{seventy-two}.",
        ),
        ({"solution": "\\boxed{72}"}, ""),
        ({"solution": "72"}, ""),
        ({"solution": "So the final answer is: 72."}, ""),
        ({"solution": "**Answer:** $72$"}, ""),
        ({"solution": "We add. \\boxed{72}"}, ""),
        ({"solution": "Half of 48 is 24, and both are \\boxed{71}."}, ""),
        ({"solution": "Half of 48 is 24.\n#### 71"}, ""),
        ({"solution": ""}, ""),
        ({"solution": None}, ""),
        ({"solution": 7}, ""),
        (PROGRAM, FENCED),
        (
            {**PROGRAM, "solution": f"Add one.\n{FENCED}"},
            f"Add one.\n{FENCED}",
        ),
        ({**PROGRAM, "solution": "def g(x):\n    return x + 1"}, ""),
        ({**PROGRAM, "solution": "return x + 1"}, ""),
        ({**PROGRAM, "solution": "def f(x:"}, ""),
    ],
)
def test_a_solution_is_a_target_where_it_reasons_and_concludes_the_gold_answer(
    row: dict[str, Any], target: str
) -> None:
    solution = solve(task(**row))
    assert (solution.text if solution else "") == target


def test_mistakes_in_prose_are_where_they_are_said_to_be() -> None:
    read = task(answer=GSM8K)
    solution = solve(read)
    assert isinstance(solution, Solution) and len(solution.steps) == 2
    attempts = [with_mistake(solution, random.Random(seed)) for seed in range(40)]
    assert {attempt.wrong_step for attempt in attempts} == {1, 2}
    for attempt in attempts:
        assert extract_answer(attempt.text) == attempt.answer != "72"
        assert f"48+24 = {attempt.answer if attempt.wrong_step == 1 else '72'} clips" in attempt.text


THINKING = "<think>Maybe it is \\boxed{18}? No.</think>Tom has 12+5=17 apples.\n#### 17"


@pytest.mark.parametrize(
    "solution",
    [
        THINKING,
        "<think>It is \\boxed{17}.</think>So 12+5 = 17 apples, \\boxed{17}.",
        "so $12+5=17$ apples.\nThe answer is: 17.\n\\boxed{17}",
        "12+5 = 17 apples, and so\nthe answer is 17. \\boxed{17} apples: 17.",
        "12+5 = 17 and that is all of them.\n\\boxed{17\\text{ apples}}",
    ],
)
def test_an_attempt_with_a_mistake_is_wrong_where_it_is_read_and_does_not_contradict_itself(solution: str) -> None:
    read = task(answer="17", solution=solution)
    solved = solve(read)
    assert solved is not None and extract_answer(strip_think(solved.text)) in ("17", "17\\text{ apples}")
    assert "#" not in solved.text
    for seed in range(40):
        attempt = with_mistake(solved, random.Random(seed))
        assert "think" not in attempt.attempt + solved.attempt
        assert extract_answer(attempt.attempt) == attempt.answer != "17"
        conclusion = attempt.attempt.partition("=")[2]
        value, _, rest = conclusion.lstrip().partition(" " if "$" not in conclusion else "$")
        assert value.rstrip("$,") == ("17" if attempt.wrong_step == 1 else attempt.answer), "one equation, one mistake"
        assert "17" not in rest


@pytest.mark.parametrize(
    "solution",
    [
        "I count them all, one by one.\nSo there are 17.",
        "I count them all, one by one.\n\nSo there are $17$.\n\n$\\boxed{17}$",
        "<think>12+5 = 17, I think.</think>I count them all, one by one.\nSo there are 17.",
    ],
)
def test_a_line_of_words_before_the_box_says_what_the_box_does(solution: str) -> None:
    read = task(answer="17", solution=solution)
    solved = solve(read)
    assert solved is not None and not solved.steps, "an attempt shows no equation, so a critique checks none"
    for seed in range(10):
        attempt = with_mistake(solved, random.Random(seed))
        assert "17" not in attempt.attempt and attempt.attempt.count(attempt.answer) == 2


def test_equations_are_those_that_are_shown() -> None:
    read = task(answer="17", solution="<think>12+5 = 18, no.</think>Tom has 12+5 = 17 apples.\n#### 17")
    solved = solve(read)
    assert solved is not None and [step.text for step in solved.steps] == ["12 + 5 = 17"]


PAIR = {"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}]}


def test_pairs_of_ones_own_are_taken_as_they_are(tmp_path: Path) -> None:
    rows = [
        PAIR,
        {"messages": [{"role": "system", "content": "S"}, *PAIR["messages"]], "source": "a column"},
        {"prompt": "Q?", "completion": "A."},
        {"prompt": PAIR["messages"][:1], "completion": PAIR["messages"][1:]},
        {"conversations": [{"from": "human", "value": "Q?"}, {"from": "gpt", "value": "A."}]},
    ]
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    pairs = own_pairs(str(file), frozenset())
    assert [pair["messages"][-2:] for pair in pairs] == [PAIR["messages"]] * 5
    assert pairs[1]["messages"][0] == {"role": "system", "content": "S"}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"messages": PAIR["messages"][:1]}, "is no pair of prompt and answer; expected a line such as"),
        ({"messages": PAIR["messages"][1:]}, "is no pair"),
        ({"messages": "Q?"}, "is no pair"),
        ({"messages": [*PAIR["messages"], {"role": "user", "content": "Q?"}]}, "is no pair"),
        ({"messages": [PAIR["messages"][0], {"role": "assistant", "content": None}]}, "is no pair"),
        ({"messages": [PAIR["messages"][0], {"role": "assistant", "content": " "}]}, "is no pair"),
        ({"prompt": "Q?"}, "is no pair"),
        ({"question": "Q?", "answer": "A."}, "is no pair"),
        ({"prompt": "Held out?", "completion": "A."}, "asks a held-out problem"),
        ({"prompt": "Solve it.\nHeld out?\nThink.", "completion": "A."}, "asks a held-out problem"),
        ({"prompt": "Out held", "completion": "A."}, "or a near-duplicate of one"),
    ],
)
def test_a_line_that_is_no_pair_of_ones_own_is_named(row: dict[str, Any], says: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(map(json.dumps, [PAIR, row])), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        own_pairs(str(file), {text_hash("Held out?"), bag_hash("Held out?")})
    assert str(caught.value).startswith(f"{file}, line 2: ") and says in str(caught.value)


class Scripted:
    """A teacher who always says the same."""

    async def chat(self, messages: tuple[Message, ...], **_: Any) -> Reply:
        return Reply(text=f"I think so.\n{FENCED}", finish_reason="stop")


@pytest.mark.parametrize("skill", sorted(set(skills_of(SftSection(), 100))))
async def test_a_teacher_is_asked_for_programs_in_their_form(skill: str) -> None:
    program = task(**PROGRAM)
    teacher = Teacher(Config(), [program], Scripted(), None)  # type: ignore[arg-type]
    value = await teacher._prompt(skill, program, random.Random(0), (0, 0))
    shown = render(value, templates_of("compact"))
    assert isinstance(value, Abstract) or "```python block" in shown
    assert "\\boxed" not in shown


def test_what_a_teacher_was_asked_before_is_found_unless_it_was_asked_in_another_form() -> None:
    """The key is that of commit 0b460f3, by which its cache has answers that were paid for."""
    of_then = Config.model_validate({"rollout": {"templates": "legacy"}, "problems": {"drop_near_duplicates": False}})
    assert teacher_key(of_then, "teacher") == "40319870430c178d"
    assert teacher_key(of_then, "teacher", [task()]) == "40319870430c178d"
    assert teacher_key(of_then, "teacher", [task(**PROGRAM)]) != "40319870430c178d"
    assert teacher_key(Config(), "teacher") != "40319870430c178d", "its prompts and problems are others"
