import random
import re
from collections import Counter
from typing import Any

import pytest
from rapidfuzz import fuzz

from pipeline.config.problems import FamilySettings, ProblemsSection
from pipeline.errors import ConfigError
from pipeline.problems.dataset import ProblemSet, load_problems
from pipeline.problems.operator_rules import BY_NAME, COMMON, NUM_WORDINGS, RARE, RULES, UNSEEN, are_telling
from pipeline.problems.operators import OperatorParams, operands, operators, params_of, practice_operator, prior_rule
from tests.documents import ROOT


def settings(**params: Any) -> ProblemsSection:
    return ProblemsSection(source="operators", families=(FamilySettings(name="operators", params=params),))


def loaded(run_seed: int = 0, **params: Any) -> ProblemSet:
    return load_problems(settings(**params), run_seed)


def operator_of(task: Any) -> str:
    return str(task.label.entry["metadata"]["operator"])


def test_a_right_answer_identifies_its_rule() -> None:
    for task in loaded().train[:300]:
        found = task.label.entry["metadata"]
        matching = [rule.name for rule in RULES if str(rule.value(found["left"], found["right"])) == task.label.answer]
        assert matching == [found["rule"]]


def test_the_rules_are_divided_and_each_wording_tells_one_rule() -> None:
    assert sorted(rule.name for rule in (*COMMON, *RARE, *UNSEEN)) == sorted(BY_NAME)
    assert len({rule.words(wording) for rule in RULES for wording in range(NUM_WORDINGS)}) == len(RULES) * NUM_WORDINGS
    assert not any(character.isdigit() for rule in RULES for w in range(NUM_WORDINGS) for character in rule.words(w))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_expression_of_a_rule_has_its_value(rule: Any) -> None:
    rng = random.Random(rule.name)
    for _ in range(20):
        left, right = operands(OperatorParams(), rng)
        assert are_telling(left, right)
        assert eval(rule.expression(left, right)) == rule.value(left, right)


def test_no_problem_tells_its_rule_and_held_out_operators_are_never_trained() -> None:
    problems = loaded()
    trained, heldout = {operator_of(task) for task in problems.train}, {operator_of(task) for task in problems.heldout}
    assert Counter(task.problem.family for task in problems.heldout) == {"operators": 384, "operators_unseen": 128}
    assert {operator_of(task) for task in problems.heldout if task.problem.family == "operators"} == trained
    assert len(trained) == 8
    assert len(heldout - trained) == 4
    words = {word for rule in RULES for word in re.findall(r"[a-z]+", rule.words(0))} - {"the", "number", "numbers"}
    for task in problems.train[:200]:
        assert not words & set(re.findall(r"[a-z]+", task.problem.text))


def test_no_training_problem_has_the_words_and_numbers_of_a_held_out_one() -> None:
    problems = loaded()
    bags = {" ".join(sorted(re.findall(r"\w+", task.problem.text))) for task in problems.heldout}
    assert not [
        task.problem.text for task in problems.train if " ".join(sorted(re.findall(r"\w+", task.problem.text))) in bags
    ]


def test_rules_names_and_held_out_problems_depend_on_the_seed_of_the_params_alone() -> None:
    first, other_run, other_task = loaded(0), loaded(1), loaded(0, seed=1)
    assert first.heldout == other_run.heldout
    assert first.train != other_run.train
    assert {operator_of(task) for task in first.train} == {operator_of(task) for task in other_run.train}
    assert {operator_of(task) for task in first.train} != {operator_of(task) for task in other_task.train}


def test_practice_has_other_names_and_the_prior_that_is_asked_for() -> None:
    params, rng = OperatorParams(), random.Random(0)
    names = {practice_operator(params, rng).name for _ in range(3000)}
    for seed in range(20):
        assert not names & {each.name for group in operators(OperatorParams(seed=seed)) for each in group}
    drawn = Counter(prior_rule(params, rng) for _ in range(40_000))
    assert all(0.007 < drawn[rule] / 40_000 < 0.013 for rule in RARE)
    assert not any(drawn[rule] for rule in UNSEEN)


def test_problems_of_one_operator_are_more_alike_than_any_threshold_and_of_two_they_span_a_range() -> None:
    tasks = loaded().train
    rng = random.Random(0)
    same: list[float] = []
    other: list[float] = []
    for _ in range(3000):
        a, b = rng.sample(tasks, 2)
        likeness = fuzz.ratio(a.problem.text, b.problem.text) / 100
        (same if operator_of(a) == operator_of(b) else other).append(likeness)
    assert min(same) > 0.93
    assert min(other) < 0.5
    assert 0.05 < sum(likeness >= 0.9 for likeness in other) / len(other) < 0.5


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ({"families": [{"name": "operator"}]}, "problems.families names operator: .* has one family, 'operators'"),
        (
            {"families": [{"name": "operators", "params": {"num_operator": 3}}]},
            r"params.num_operator = 3: .*did you mean num_operators\?",
        ),
        ({"families": [{"name": "operators", "params": {"rules": "odd"}}]}, r"params.rules = 'odd': .*'rare'"),
        ({"families": [{"name": "operators", "params": {"max_number": 5}}]}, r"params.max_number = 5: .* 12"),
    ],
)
def test_a_bad_dial_is_named_with_its_value_and_a_remedy(problem: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_problems(ProblemsSection.model_validate({"source": "operators", **problem}), 0)


def test_without_families_the_dials_have_their_defaults() -> None:
    assert params_of(ProblemsSection(source="operators", families=())) == OperatorParams()


def test_the_page_lists_the_dials_as_they_are() -> None:
    rows = [
        f"| `{name}` | {field.default} | {field.description} |" for name, field in OperatorParams.model_fields.items()
    ]
    page = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- dials -->\n")[2].partition("<!-- /dials -->")[0]
    assert shown.splitlines() == ["| dial | default | meaning |", "|---|---|---|", *rows]
