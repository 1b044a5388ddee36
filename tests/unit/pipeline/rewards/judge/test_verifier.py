"""Verdicts of judges beside those of other scorers, put together as if one process had given them all."""

from __future__ import annotations

import pytest

from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError
from pipeline.rewards.judge.model import JudgeRules, own_rules, rules_in
from pipeline.rewards.judge.verifier import check_judgeable, verdicts_of_each, without_judges
from pipeline.rewards.scoring import combined
from pipeline.rewards.version import reward_version, verifier_version
from pipeline.types import Label, Verdict
from tests.builders import task_with

AT = {"endpoint": {"url": "http://127.0.0.1:8000", "model": "m"}}
JUDGED = Verdict(kind="scored", score=0.5, correct=False, answer="8", text="so so")


def section(*scorers: object, **judge: object) -> RewardSection:
    return RewardSection.model_validate({"scorers": scorers, "judge": {**AT, **judge}})


@pytest.mark.parametrize("first", [True, False])
def test_each_scorer_has_its_part_and_the_first_decides_what_is_correct(first: bool) -> None:
    others = ["math", {"scorer": "format", "weight": 0.25}]
    judge = {"scorer": "judge", "weight": 2.0}
    settings = section(*([judge, *others] if first else [*others, judge]))
    columns = [(one.column, one.weight) for one in settings.all_scorers]
    together = Verdict(
        kind="scored", score=1.25, correct=True, answer="7", text="by value", components={"math": 1.0, "format": 1.0}
    )
    verdict = combined(verdicts_of_each(together, settings.all_scorers, {"judge": JUDGED}), columns)
    assert verdict.score == 1.0 + 0.25 + 2.0 * 0.5
    assert verdict.components == {"math": 1.0, "format": 1.0, "judge": 0.5}
    assert verdict.correct == (not first)
    assert sorted(verdict.text.splitlines()) == ["by value", "so so"]


def test_what_a_judge_decides_by_is_part_of_the_version_and_where_it_is_is_not() -> None:
    version = reward_version(section("judge"))
    assert reward_version(section("judge", endpoint={**AT["endpoint"], "url": "http://other"})) == version
    assert reward_version(section("judge", endpoint={**AT["endpoint"], "max_concurrency": 4})) == version
    different = (
        section("judge", rubric="Is it polite?"),
        section("judge", rubric_column="rubric"),
        section("judge", max_tokens=64),
        section("judge", endpoint={**AT["endpoint"], "model": "n"}),
        section({"scorer": "judge", "rubric": "Is it short?"}),
    )
    assert len({version, *map(reward_version, different)}) == 1 + len(different)
    assert reward_version(section("math")) == reward_version(RewardSection(scorer="math")), (
        "judges of others change nothing"
    )
    assert verifier_version("judge") != verifier_version("math")


def test_scorers_have_rubrics_of_their_own() -> None:
    settings = section("judge", {"scorer": "judge", "name": "style", "rubric": "Short?"}, rubric="Polite?")
    assert {name: rules.rubric for name, rules in rules_in(settings).items()} == {"judge": "Polite?", "style": "Short?"}
    assert own_rules(settings) == JudgeRules("Polite?", "", settings.threshold)
    assert not own_rules(RewardSection()).by_rubric


def test_what_a_judge_cannot_go_by_is_found_before_it_is_asked() -> None:
    task = task_with("7", "p")
    program = task.model_copy(update={"label": Label(problem_id="p", answer="", row={"rubric": "Short?"})})
    check_judgeable(section("judge"), [task])
    check_judgeable(section("judge", rubric_column="rubric"), [program])
    check_judgeable(RewardSection(), [program])
    with pytest.raises(ConfigError, match=r"'p' has no gold answer .* or a rubric"):
        check_judgeable(section("math", "judge"), [task, program])
    with pytest.raises(ConfigError, match="has nothing in its column 'rubric'"):
        check_judgeable(section("judge", rubric_column="rubric"), [program, task])


def test_other_scorers_are_left_for_other_processes() -> None:
    settings = without_judges(section("judge", "math", {"scorer": "format", "weight": 0.5}))
    assert settings is not None and [one.scorer for one in settings.all_scorers] == ["math", "format"]
    assert settings.scorer == "math"
    assert without_judges(section("judge")) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"scorer": "judge"}, "reward.judge.endpoint.url http://"),
        ({"scorers": ["math", "judge"]}, "scorer = 'judge' needs a language model"),
        ({"scorers": [{"scorer": "math", "rubric": "x"}]}, "settings of scorer = 'judge', and this one is 'math'"),
        ({"scorers": ["judge", "judge"], "judge": AT}, "two that are called 'judge'"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_no_configuration(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RewardSection.model_validate(values)
