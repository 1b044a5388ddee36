"""Hedged and nonsense answers earn nothing in any task family; right ones in another form do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.config.problems import FamilySettings
from pipeline.config.rollout import RewardSection
from pipeline.errors import ConfigError, DataError
from pipeline.problems.reasoning_gym import _task, create_family
from pipeline.rewards.families import HEDGES, family_score, in_the_words_of
from pipeline.rewards.scorers import make_scorer
from pipeline.rewards.scoring import judged
from pipeline.types import Label, Task

# They have more than one gold answer, or need params: a run refuses them.
REFUSED = {"boxnet", "composite", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
# Their gold answer in a box is not what their scorer, or the extraction, takes it to be.
GOLD_IS_LOST = {"arc_agi", "emoji_mystery", "rearc", "sentence_reordering"}
AUTO = make_scorer("auto", RewardSection())


def problems_of(name: str) -> Iterator[Task]:
    family = FamilySettings(name=name)
    source = create_family(family, 0, 123, 2)
    for index in range(2):
        yield _task(family, source[index], "train")[0]


def all_families() -> list[str]:
    from reasoning_gym.factory import DATASETS

    return sorted(DATASETS)


def test_hedges_and_nonsense_earn_nothing_in_any_family() -> None:
    paid, refused, lost = [], set(), set()
    for name in all_families():
        try:
            tasks = list(problems_of(name))
        except (ConfigError, DataError):
            refused.add(name)
            continue
        for task in tasks:
            gold, label = task.label.answer, task.label
            hedges = [hedge.format(gold=gold) for hedge in HEDGES]
            answers = [*hedges, *(f"\\boxed{{{text}}}" for text in (*hedges, "zzz")), "zzz", "\\boxed{}", ""]
            answers += [f"<answer>{text}</answer>" for text in (*hedges, "zzz")]
            for text in answers:
                verdict = judged(lambda text=text, label=label: AUTO(text, label))  # type: ignore[misc]
                if verdict.score != 0 or verdict.correct:
                    paid.append((name, text, verdict))
            if not judged(lambda label=label: AUTO(f"\\boxed{{{label.answer}}}", label)).correct:  # type: ignore[misc]
                lost.add(name)
    assert paid == []
    assert (refused, lost) == (REFUSED, GOLD_IS_LOST)
    assert len(all_families()) - len(refused) >= 100


def test_graded_pays_what_the_family_says() -> None:
    (task, _) = problems_of("chain_sum")
    hedged = f"\\boxed{{the answer {task.label.answer} or 5}}"
    raw = family_score(f"the answer {task.label.answer} or 5", task.label)
    assert 0 < raw < 1
    graded = make_scorer("auto", RewardSection(graded=True))(hedged, task.label)
    assert (graded.score, graded.correct) == (raw, False)
    assert AUTO(hedged, task.label).score == 0


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("LDLLUR", "RRDLUU", True),
        ("LDLLUR", "the answer LDLLUR or 5", False),
        ("0 1 0\n1 1 0", "1 1 0\n0 1 0", True),
        ("0 1 0\n1 1 0", "0 1 0\n1 1 0 or 5", False),
        ("Ann is a knight, and Bob is a knave", "Bob is a knave and Ann is a knight", True),
        ("Ann is a knight, and Bob is a knave", "Ann is a knight or a knave", False),
        ("5*x**5/3 + C", "\\frac{5 x^5}{3} + C", True),
        ("2*x*cos(x) + C", "x\\cdot 2 cos(x) + sin(0) + C", True),
        ("2*x*cos(x) + C", "2*x*cos(x) + C or 5", False),
        ("and most other parts", "and most other parts 5", False),
    ],
)
def test_an_answer_in_the_words_of_the_gold_one(gold: str, answer: str, same: bool) -> None:
    assert in_the_words_of(gold, answer) is same


def test_another_path_to_the_goal_is_still_paid() -> None:
    """Of a scorer that pays hedges: what is right and differs from the gold answer stays right."""
    for task in problems_of("knights_knaves"):
        first, _, second = task.label.answer.partition(", and ")
        assert AUTO(f"\\boxed{{{second}, and {first}}}", task.label).correct, task.label.answer
    for task in problems_of("gsm_symbolic"):
        assert AUTO(f"\\boxed{{{task.label.answer}.0}}", task.label).correct
    label = Label(problem_id="p", answer="7")
    assert AUTO("\\boxed{7}", label).correct
