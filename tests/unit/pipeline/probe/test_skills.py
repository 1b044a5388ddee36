"""What is measured of models whose skills are known: each lack shows in its own table, and in no other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.config.loading import load_recipe
from pipeline.errors import EndpointError
from pipeline.probe.grounds import Operators, stated_ground, sums_ground
from pipeline.probe.policy import Policy
from pipeline.probe.report import ProbeReport, SkillReport, report
from pipeline.probe.runner import measure, measures
from pipeline.probe.skills import Answer
from pipeline.run.state import BASE_MODEL
from tests.skilled_policy import SkilledPolicy, Skills

NUM = 120


async def answers_of(policy: SkilledPolicy, num: int = NUM, *, brief: bool = False) -> list[Answer]:
    config = load_recipe("quickstart")
    config = config.model_copy(update={"rollout": config.rollout.model_copy(update={"templates": "compact"})})
    operators = Operators(config, num)
    grounds = [stated_ground(operators, 64), sums_ground(operators, num, 64)]
    answers: list[Answer] = []

    def failed(error: EndpointError) -> None:
        raise error

    wanted = measures(Policy(config, policy), operators, grounds, 64, brief=brief)
    await measure(wanted, 8, answers.extend, failed)
    return answers


async def probed(num: int = NUM, *, brief: bool = False, **skills: str) -> ProbeReport:
    policy = SkilledPolicy(Skills(**skills))  # type: ignore[arg-type]
    return report(BASE_MODEL, await answers_of(policy, num, brief=brief))


def of(found: ProbeReport, skill: str, ground: str) -> SkillReport:
    (one,) = (one for one in found.skills if (one.skill, one.ground) == (skill, ground))
    return one


def values(one: SkillReport, *names: str) -> Sequence[float | None]:
    return [rate.value if (rate := one.rate(name)) else None for name in names]


async def test_a_model_with_all_skills_needs_no_sft() -> None:
    found = await probed()
    assert found.verdicts == dict.fromkeys(("follow", "ignore", "summarise", "inspect"), "yes")
    assert found.needs_sft == ()
    assert found.conclusion == (
        "It can follow, ignore, summarise and inspect. It needs no SFT: train with sft.enabled = false."
    )
    follow = of(found, "follow", "operators")
    names = [f"both followed, {trait}" for trait in ("wording unseen", "rules unseen", "rules of the problems")]
    assert values(follow, "both contradicting lessons followed", *names) == [1, 1, 1, 1]
    for control in ("content-free", "irrelevant lesson", "no lesson"):
        assert (effect := follow.effect(f"lesson − {control}")) and effect.value > 0.9
    for ground in ("stated", "chain_sum"):
        cost = of(found, "ignore", ground).effect("cost of an irrelevant lesson")
        assert cost and cost.value == 0 and 0 < cost.high <= 0.03
        upheld = values(of(found, "inspect", ground), "right attempts upheld", "wrong attempts overturned")
        assert upheld == [1, 1]
    readers = ("rule told by what a reader does with the lesson", "rule told by the lesson's words", "lesson accepted")
    assert values(of(found, "summarise", "operators"), *readers) == [1, 1, 1]


async def test_a_model_that_ignores_its_lessons_does_not_follow() -> None:
    found = await probed(reads="none")
    assert (found.verdicts["follow"], found.verdicts["ignore"]) == ("no", "yes")
    assert found.needs_sft == ("follow",)
    assert values(of(found, "follow", "operators"), "both contradicting lessons followed") == [0]
    summarise = of(found, "summarise", "operators")
    assert values(summarise, "rule told by the lesson's words") == [1], "it tells, although it does not read"
    assert "its words, for the model does not follow lessons" in summarise.reason
    assert found.verdicts["summarise"] == "yes"


async def test_a_model_that_follows_any_lesson_does_not_ignore() -> None:
    found = await probed(reads="any")
    assert (found.verdicts["follow"], found.verdicts["ignore"]) == ("yes", "no")
    assert values(of(found, "ignore", "chain_sum"), "right: no lesson", "right: irrelevant lesson") == [1, 0]
    cost = of(found, "ignore", "chain_sum").effect("cost of an irrelevant lesson")
    assert cost and cost.value == 1
    assert "cannot ignore" in found.conclusion


async def test_lessons_that_say_the_same_whatever_the_attempt_tell_nothing() -> None:
    found = await probed(tells="one rule")
    assert found.verdicts["summarise"] == "no"
    assert (one := of(found, "summarise", "operators").rate("rule told by the lesson's words")) and one.value < 0.3
    assert found.needs_sft == ("summarise",)


async def test_lessons_that_give_the_answer_away_count_as_none() -> None:
    found = await probed(tells="answer")
    accepted, named = values(
        of(found, "summarise", "operators"), "lesson accepted", "rule told by what a reader does with the lesson"
    )
    assert named == 0
    assert accepted is not None and accepted <= 0.5, "but for attempts that were cut before their answer"
    assert found.verdicts["summarise"] == "no"


@pytest.mark.parametrize(("critique", "upheld", "overturned"), [("uphold", 1, 0), ("overturn", 0, 1)])
async def test_one_accuracy_would_hide_who_only_upholds_or_only_overturns(
    critique: str, upheld: float, overturned: float
) -> None:
    found = await probed(critique=critique)
    for ground in ("stated", "chain_sum"):
        one = of(found, "inspect", ground)
        assert values(one, "right attempts upheld", "wrong attempts overturned") == [upheld, overturned]
        assert one.verdict == "partly"
    assert found.needs_sft == ("inspect",)


async def test_few_problems_decide_nothing() -> None:
    found = await probed(3, brief=True)
    assert set(found.verdicts.values()) == {"unclear"}
    assert "these problems do not tell" in found.conclusion and "SFT is needed" not in found.conclusion


async def test_the_short_form_asks_for_less_and_finds_the_same() -> None:
    short, whole = SkilledPolicy(), SkilledPolicy()
    few = await answers_of(short, 12, brief=True)
    many = await answers_of(whole, 12)
    assert short.num_asked < 0.6 * whole.num_asked
    assert {answer.skill for answer in few} == {answer.skill for answer in many}
    assert report("m", few).skills[0].rates[0].value == 1


async def test_more_problems_are_the_same_ones_and_others() -> None:
    few, many = await answers_of(SkilledPolicy(), 8), await answers_of(SkilledPolicy(), 16)
    assert {answer.turn.messages for answer in few} < {answer.turn.messages for answer in many}
