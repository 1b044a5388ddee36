import json
import random
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.config.rollout import RolloutSection
from pipeline.config.run import RunSection
from pipeline.config.sft import SftSection
from pipeline.experience.leakage import gives_answer_away
from pipeline.problems.dataset import load_problems
from pipeline.problems.operator_rules import COMMON, HELDOUT_WORDING, NUM_WORDINGS, RARE, RULES, UNSEEN
from pipeline.problems.operators import OperatorParams, operators
from pipeline.rewards.extraction import extract_answer
from pipeline.sft.critiques import critique
from pipeline.sft.lessons import all_lessons, sentence
from pipeline.sft.methods import SUM_METHODS, ways
from pipeline.sft.pairs import make_pairs, pairs_key, write_pairs
from pipeline.sft.teacher import teacher_key
from pipeline.sft.worked_solutions import Solution, cut_off, solve, with_mistake
from pipeline.types import Label, Problem, Task
from prompts.analysis import analysis_of, verdict_of, without_analysis
from prompts.render import render_lessons
from prompts.schemas import reply_type, summary_of

FAMILIES = ("chain_sum", "basic_arithmetic", "gsm_symbolic")


def config(*families: str, num_pairs: int = 60, **values: Any) -> Config:
    section = ProblemsSection(
        families=tuple(FamilySettings(name=name) for name in families or FAMILIES), num_train=120, num_heldout=256
    )
    return Config(problems=section, sft=SftSection(num_pairs=num_pairs), **values)


def sum_task(expression: str, answer: str, family: str = "chain_sum") -> Task:
    problem = Problem(id="p", text=f"{expression} =", family=family)
    return Task(
        problem=problem, label=Label(problem_id="p", answer=answer, entry={"metadata": {"expression": expression}})
    )


def test_pairs_of_every_skill_in_their_shares() -> None:
    wanted = config()
    tasks = load_problems(wanted.problems, 0).train
    pairs = make_pairs(wanted, tasks)
    assert Counter(pair["skill"] for pair in pairs) == {"respond": 42, "inspect": 12, "summarise": 6}
    by_id = {task.problem.id: task for task in tasks}
    for pair in pairs:
        system, user, assistant = (message["content"] for message in pair["messages"])
        task = by_id[pair["problem_id"]]
        assert [message["role"] for message in pair["messages"]] == ["system", "user", "assistant"]
        assert system == wanted.rollout.system_prompt
        assert task.problem.text in user
        if pair["skill"] == "summarise":
            summary = summary_of(reply_type(wanted.lesson_sizes).model_validate_json(assistant))
            assert assistant == summary.reply
            assert summary.critique
        else:
            assert extract_answer(assistant) == task.label.answer
    assert sum("Lesson 1" in pair["messages"][1]["content"] for pair in pairs) == 17


def lessons_in(prompt: str) -> dict[int, dict[str, str]]:
    """The lessons that a prompt shows, by number, as their lines."""
    found = {}
    for number, body in re.findall(r"^Lesson (\d+) \(from: [^\n]*\)\n((?:- .*\n)+)", prompt, re.MULTILINE):
        found[int(number)] = dict(line.removeprefix("- ").split(": ", 1) for line in body.splitlines())
    return found


def way_of(target: str, task: Task) -> str:
    """Which of the ways to sum the steps of a target are."""
    solution = solve(task)
    assert solution is not None
    solved = without_analysis(target)
    return next((method.wordings[0] for method, found in ways(task, solution) if found.text == solved), "none")


def test_under_lessons_the_target_is_what_the_one_that_applies_says_and_without_one_as_from_scratch() -> None:
    wanted = config("chain_sum", num_pairs=300)
    by_id = {task.problem.id: task for task in load_problems(wanted.problems, 0).train}
    counts = Counter[str]()
    for pair in make_pairs(wanted, list(by_id.values())):
        prompt, target = (message["content"] for message in pair["messages"][-2:])
        if not (lessons := lessons_in(prompt)):
            continue
        task, (topic, *remarks) = by_id[pair["problem_id"]], analysis_of(target).splitlines()
        assert topic == "The problem is about sums."
        assert [remark.split()[1] for remark in remarks] == [str(number) for number in lessons]
        applies = [number for number, remark in enumerate(remarks, 1) if " It applies: " in remark]
        counts[f"{len(applies)} apply"] += 1
        counts["wrong"] += any(" is wrong: " in remark for remark in remarks)
        way = way_of(target, task)
        if applies:
            quoted = remarks[applies[0] - 1].split(" It applies: ")[1]
            assert quoted.lower() == lessons[applies[0]]["Do"].lower()
            assert any(
                quoted.rstrip(".") in method.wordings[:-1]
                for method in SUM_METHODS.values()
                if method.wordings[0] == way
            )
        else:
            assert way == SUM_METHODS["left"].wordings[0]
        counts[way] += 1
    assert counts["1 apply"] > 20 and counts["0 apply"] > 20 and counts["wrong"] > 10
    assert all(counts[method.wordings[0]] for method in SUM_METHODS.values())


def test_a_summary_tells_the_way_of_its_own_attempt_and_where_it_went_wrong() -> None:
    wanted = config("chain_sum", num_pairs=360).model_copy(
        update={"sft": SftSection(num_pairs=360, respond_share=0.0, inspect_share=0.0)}
    )
    by_id = {task.problem.id: task for task in load_problems(wanted.problems, 0).train}
    said: dict[str, set[str]] = {}
    for pair in make_pairs(wanted, list(by_id.values())):
        prompt, target = (message["content"] for message in pair["messages"][-2:])
        task, found = by_id[pair["problem_id"]], json.loads(target)
        solution = solve(task)
        assert solution is not None
        said.setdefault(pair["problem_id"], set()).add(found["flow_of_thought"])
        own = [method for method, way in ways(task, solution) if way.steps[0].left in prompt]
        known = {sentence(words) for method in own for words in method.wordings[:-1]}
        assert found["flow_of_thought"] in known
        assert found["principles"][0] in known
        is_wrong = (
            " is wrong" in found["critique"] or ", not " in found["critique"] or "ends before" in found["critique"]
        )
        assert bool(found["pitfalls"]) == is_wrong
    assert sum(len(texts) > 1 for texts in said.values()) > len(said) / 3, "of one problem, in other words"


def test_verdicts_follow_the_attempt_and_right_ones_are_upheld() -> None:
    wanted = config("chain_sum", num_pairs=300)
    tasks = load_problems(wanted.problems, 0).train
    answers = {task.problem.id: task.label.answer for task in tasks}
    verdicts = Counter[bool]()
    for pair in make_pairs(wanted, tasks):
        if pair["skill"] == "inspect":
            user, assistant = (message["content"] for message in pair["messages"][1:])
            attempt = user.partition("An earlier attempt")[2]
            upheld = verdict_of(assistant)
            assert upheld == (f"\\boxed{{{answers[pair['problem_id']]}}}" in attempt)
            assert extract_answer(assistant) == answers[pair["problem_id"]]
            verdicts[bool(upheld)] += 1
    assert verdicts[True] == verdicts[False] == 30


OPERATORS = ProblemsSection(source="operators", families=())


def operator_pairs(num_pairs: int, **values: Any) -> list[dict[str, Any]]:
    wanted = Config(problems=OPERATORS, sft=SftSection(num_pairs=num_pairs, **values))
    problems = load_problems(wanted.problems, 0)
    return make_pairs(wanted, problems.train, problems.heldout_hashes)


def test_pairs_on_operators_hold_no_name_wording_or_rule_that_is_held_out() -> None:
    text = json.dumps(operator_pairs(1500))
    for group in operators(OperatorParams()):
        for operator in group:
            assert not re.search(rf"\b{operator.name}\b", text)
    assert not [rule.name for rule in UNSEEN for w in range(NUM_WORDINGS) if rule.words(w) in text]
    assert not [rule.name for rule in RULES if rule.words(HELDOUT_WORDING) in text]


def test_pairs_on_operators_follow_the_lesson_on_their_operator_and_guess_without_one() -> None:
    followed, guessed = Counter[str](), Counter[str]()
    for pair in operator_pairs(1500, respond_share=1.0, inspect_share=0.0):
        prompt, target = (message["content"] for message in pair["messages"][-2:])
        opening = without_analysis(target).splitlines()[0]
        rule = next(rule for rule in RULES for w in range(NUM_WORDINGS) if f", {rule.words(w)}." in opening)
        source = re.search(r"^(.*): lesson (\d) tells it\.$", analysis_of(target), re.MULTILINE)
        if source:
            assert f"{source[1]}." == opening == lessons_in(prompt)[int(source[2])]["Do"]
        is_told = "Here is the rule of" in prompt
        assert ("the problem tells it" in analysis_of(target)) == (is_told and "Lesson 1" in prompt)
        assert is_told or source or opening not in prompt
        (followed if source or is_told else guessed)[rule.name] += 1
        left, right = map(int, re.findall(r"\d+", prompt.rpartition("Problem")[2] or prompt)[-2:])
        assert extract_answer(target) == str(rule.value(left, right))
    assert len(followed) == len(RULES) - len(UNSEEN)
    assert guessed[COMMON[0].name] > 5 * guessed[RARE[0].name]


def test_pairs_depend_on_their_seed_alone(tmp_path: Path) -> None:
    wanted = config()
    tasks = load_problems(wanted.problems, 0).train
    pairs = make_pairs(wanted, tasks)
    assert pairs == make_pairs(wanted, tasks)
    assert pairs != make_pairs(wanted.model_copy(update={"sft": SftSection(num_pairs=60, seed=1)}), tasks)
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    assert [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text(encoding="utf-8").splitlines()] == pairs


def test_no_system_message_when_the_prompt_is_empty() -> None:
    wanted = config(rollout=RolloutSection(system_prompt=""))
    pairs = make_pairs(wanted, load_problems(wanted.problems, 0).train)
    assert {pair["messages"][0]["role"] for pair in pairs} == {"user"}


def test_heldout_problems_are_refused_by_split_and_by_text() -> None:
    wanted = config("chain_sum")
    problems = load_problems(wanted.problems, 0)
    with pytest.raises(ValueError, match="is held out"):
        make_pairs(wanted, [*problems.train, problems.heldout[0]])
    planted = problems.heldout[0].problem.model_copy(
        update={"split": "train", "text": problems.heldout[0].problem.text.upper()}
    )
    disguised = problems.heldout[0].model_copy(update={"problem": planted})
    with pytest.raises(ValueError, match="is held out"):
        make_pairs(wanted, [*problems.train, disguised], problems.heldout_hashes)
    used = {pair["problem_id"] for pair in make_pairs(wanted, problems.train, problems.heldout_hashes)}
    assert not used & {task.problem.id for task in problems.heldout}


def test_no_label_reaches_a_prompt() -> None:
    canary = "CANARY7Q"
    tasks = [
        Task(
            problem=Problem(id=f"p{i}", text=f"Sort the words of case {i}.", family="word_sorting"),
            label=Label(
                problem_id=f"p{i}", answer=f"{canary}-{i}", entry={"metadata": {"note": canary}, "question": canary}
            ),
            solution=f"They begin with letters, of which c is the first of all.\n\\boxed{{{canary}-{i}}}",
        )
        for i in range(100)
    ]
    shown = {"respond": 0, "inspect": 0, "summarise": 0}
    for pair in make_pairs(config(num_pairs=300), tasks):
        prompt = "".join(message["content"] for message in pair["messages"][:-1])
        assert canary not in prompt
        shown[pair["skill"]] += 1
    assert shown == {"respond": 300, "inspect": 0, "summarise": 0}, "nothing can be said of such an attempt"


@pytest.mark.parametrize(
    ("expression", "answer", "family", "text"),
    [
        ("12 + 35 - 7", "40", "chain_sum", "12 + 35 = 47\n47 - 7 = 40\n\\boxed{40}"),
        ("4 - 1 - 7", "-4", "chain_sum", "4 - 1 = 3\n3 - 7 = -4\n\\boxed{-4}"),
        ("5", "5", "chain_sum", "\\boxed{5}"),
        ("2 - -1", "3", "basic_arithmetic", "2 - -1 = 3\n\\boxed{3}"),
        ("( 56 + -33 ) - 84", "-61", "basic_arithmetic", "56 + -33 = 23\n23 - 84 = -61\n\\boxed{-61}"),
        ("2 + 3 * 4", "14", "basic_arithmetic", "3 * 4 = 12\n2 + 12 = 14\n\\boxed{14}"),
        ("-( 8 / 4 ) + 1", "-1", "basic_arithmetic", "8 / 4 = 2\n-2 + 1 = -1\n\\boxed{-1}"),
    ],
)
def test_worked_solutions(expression: str, answer: str, family: str, text: str) -> None:
    solution = solve(sum_task(expression, answer, family))
    assert solution is not None
    assert solution.text == text


@pytest.mark.parametrize(
    ("expression", "answer"), [("7 / 2", "3"), ("1 + 1", "3"), ("2 ** 3", "8"), ("f(1)", "1"), ("1 +", "1"), ("", "1")]
)
def test_what_has_no_worked_solution(expression: str, answer: str) -> None:
    assert solve(sum_task(expression, answer, "basic_arithmetic")) is None


def test_prose_yields_true_equations_that_end_in_the_answer() -> None:
    def prose_task(prose: str, answer: str) -> Task:
        entry = {"metadata": {"answer_cot": prose}}
        return Task(
            problem=Problem(id="p", text="t", family="gsm_symbolic"),
            label=Label(problem_id="p", answer=answer, entry=entry),
        )

    prose = "Evelyn wrote 294 pages x 2/3 = 196 pages.\nShe needs 294 pages - 196 pages = 98 pages.\n#### 98"
    solution = solve(prose_task(prose, "98"))
    assert solution is not None
    assert solution.text == "294 * 2 / 3 = 196\n294 - 196 = 98\n\\boxed{98}"
    assert solve(prose_task(prose, "97")) is None
    assert solve(prose_task(prose.replace("196 pages.", "195 pages."), "98")) is None
    tasks = load_problems(config("gsm_symbolic").problems, 0).train
    assert sum(solve(task) is None for task in tasks) < 0.3 * len(tasks)


def test_a_mistake_is_carried_on_and_found() -> None:
    task = sum_task("12 + 35 - 7", "40")
    solution = solve(task)
    assert solution is not None
    attempts = [with_mistake(solution, random.Random(seed)) for seed in range(50)]
    assert {attempt.wrong_step for attempt in attempts} == {0, 1, 2}
    for attempt in attempts:
        assert attempt.answer != "40"
        if attempt.wrong_step == 0:
            wrong = attempt.steps[0].value
            assert attempt.steps[1].left == f"{wrong} - 7"
            assert critique(attempt, solution) == f"12 + 35 = {wrong} is wrong: it is 47.\nVerdict: wrong."
        if attempt.wrong_step == 2:
            lines = f"12 + 35 = 47 is right.\n47 - 7 = 40 is right.\nThe answer is 40, not {attempt.answer}."
            lines += "\nVerdict: wrong."
            assert critique(attempt, solution) == lines
    bare = Solution((), "41")
    worked_out = "It shows no steps.\n12 + 35 = 47.\n47 - 7 = 40.\nIt says 41.\nVerdict: wrong."
    assert critique(bare, solution) == worked_out
    assert critique(Solution((), "40"), solution).endswith("It says 40.\nVerdict: right.")
    cut = cut_off(solution, random.Random(0))
    assert critique(cut, solution) == "12 + 35 = 47 is right.\nIt ends before the answer.\nVerdict: wrong."
    assert cut.text == "12 + 35 = 47"


def test_lessons_of_other_things_are_short_and_hold_no_digit() -> None:
    for lesson in all_lessons():
        text = render_lessons((lesson,))
        assert not any(character.isdigit() for character in text)
        assert len(lesson.flow_of_thought) <= 80
        assert all(len(line) <= 70 for line in (*lesson.principles, *lesson.pitfalls))
        assert not gives_answer_away(text, "7")


def test_the_key_covers_what_the_result_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = config("chain_sum")
    keys = {
        pairs_key(base, "model"),
        pairs_key(base, "other model"),
        pairs_key(config("chain_sum", num_pairs=61), "model"),
        pairs_key(config("basic_arithmetic"), "model"),
        pairs_key(config("chain_sum", rollout=RolloutSection(system_prompt="Other.")), "model"),
    }
    file = tmp_path / "a.jsonl"
    section = ProblemsSection(source="jsonl", train_file=str(file), num_heldout=256)
    for content in ("one", "two"):
        file.write_text(content, encoding="utf-8")
        keys |= {pairs_key(Config(problems=section), "model"), teacher_key(Config(problems=section), "teacher")}
    module = tmp_path / "my_tasks.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    for content in ("one = 1", "two = 2"):
        module.write_text(content, encoding="utf-8")
        keys.add(pairs_key(Config(problems=ProblemsSection(source="my_tasks:load")), "model"))
    assert len(keys) == 11
    assert pairs_key(base, "model") == pairs_key(config("chain_sum", run=RunSection(seed=5)), "model")
    assert pairs_key(base, "model") == pairs_key(base.model_copy(update={"recipe": "other"}), "model")


def test_answers_only_show_no_steps_in_the_wanted_share_and_a_critique_works_them_out() -> None:
    config = Config.model_validate({"sft": {"num_pairs": 400, "answer_only_share": 0.5}})
    pairs = make_pairs(config, load_problems(config.problems, 0).train)
    scratch = [pair for pair in pairs if pair["skill"] == "respond" and not lessons_in(pair["messages"][-2]["content"])]
    answers_only = [pair for pair in scratch if pair["messages"][-1]["content"].startswith("\\boxed{")]
    assert 0.35 < len(answers_only) / len(scratch) < 0.65
    inspected = [pair for pair in pairs if "It shows no steps." in pair["messages"][-1]["content"]]
    assert inspected
    assert all("\nIt says " in analysis_of(pair["messages"][-1]["content"]) for pair in inspected)


CLAIM = re.compile(r"^([\d. +*/-]+) = (-?[\d.]+) is (right|wrong: it is (-?[\d.]+))\.$", re.MULTILINE)


def critiques_claim_only_what_holds(pairs: list[dict[str, Any]]) -> None:
    """Every "is right" is of a true equation that the attempt has, every "is wrong" of a false one."""
    assert pairs
    for pair in pairs:
        user, target = (message["content"] for message in pair["messages"][-2:])
        claims = CLAIM.findall(target)
        assert len(claims) == target.count(" is right.") + target.count(" is wrong: it is ")
        for left, value, verdict, correct in claims:
            assert left.replace(" ", "") in user.replace(" ", "")
            true = Fraction(str(eval(left)))
            assert (true == Fraction(value)) == (verdict == "right")
            assert not correct or Fraction(correct) == true


def test_a_critique_claims_only_what_was_checked() -> None:
    for families in (("chain_sum",), ("basic_arithmetic",), ("gsm_symbolic",), FAMILIES):
        for share in (0.0, 0.5):
            wanted = config(*families, num_pairs=200)
            wanted = wanted.model_copy(update={"sft": SftSection(num_pairs=200, answer_only_share=share)})
            pairs = make_pairs(wanted, load_problems(wanted.problems, 0).train)
            critiques_claim_only_what_holds([pair for pair in pairs if pair["skill"] == "inspect"])
